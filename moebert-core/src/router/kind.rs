//! What is known of a router before it is made.

/// A loss that a router may add to a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterLoss {
    /// Its name in [`Routing::losses`](super::Routing::losses), and the key of its weight in a recipe.
    pub name: &'static str,
    /// Its name on the dashboard.
    pub title: &'static str,
    /// The name of its form that counts padded tokens, too, if that is another number.
    pub with_padding: Option<&'static str>,
}

/// What all routers of a name have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that are independent of each other, and no state"
)]
pub struct RouterKind {
    /// The name in the text form.
    pub name: &'static str,
    /// The losses that it may add to a training.
    pub losses: &'static [RouterLoss],
    /// Whether a token's experts depend on no token after it, as in a decoder they may not.
    pub is_causal: bool,
    /// Whether a token may pass several experts.
    pub takes_several: bool,
    /// Whether it is a learned gate, whose probabilities [`GateScale`](super::GateScale) lets act on the output.
    pub is_gate: bool,
    /// Whether it is made from how often each token occurs in the training set.
    pub counts_tokens: bool,
}

impl RouterKind {
    /// A table: causal, one expert per token, no losses.
    pub const fn table(name: &'static str) -> Self {
        Self {
            name,
            losses: &[],
            is_causal: true,
            takes_several: false,
            is_gate: false,
            counts_tokens: false,
        }
    }

    /// A causal gate that sends a token to one expert and has these losses.
    pub const fn gate(name: &'static str, losses: &'static [RouterLoss]) -> Self {
        Self {
            losses,
            is_gate: true,
            ..Self::table(name)
        }
    }

    /// The losses of all routers, each once.
    pub fn all_losses() -> Vec<&'static RouterLoss> {
        let mut all: Vec<&RouterLoss> = vec![];
        for loss in Self::ALL.iter().flat_map(|kind| kind.losses) {
            if all.iter().all(|other| other.name != loss.name) {
                all.push(loss);
            }
        }
        all
    }

    /// Whether a loss of this name is among those of the router.
    pub fn has_loss(&self, name: &str) -> bool {
        self.losses.iter().any(|loss| loss.name == name)
    }

    /// The names of the routers that fit, for messages.
    pub fn names(fits: impl Fn(&Self) -> bool) -> String {
        let fitting = Self::ALL.iter().filter(|kind| fits(kind));
        let names: Vec<String> = fitting.map(|kind| format!("`{}`", kind.name)).collect();
        match names.as_slice() {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            names => names.concat(),
        }
    }
}
