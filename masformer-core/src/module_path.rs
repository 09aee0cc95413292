//! The path of a parameter while a visitor walks through a module.

use std::fmt;

/// The names of the modules that a visitor has entered, from the outside. Variants of enums are no part of a path, as they
/// are none of a weight's name.
#[derive(Clone, Debug, Default)]
pub struct ModulePath {
    parts: Vec<String>,
    /// The kind of the module that the last name is a field of.
    container: String,
}

/// Whether a module is the variant of an enum.
fn is_variant(container: &str) -> bool {
    container.starts_with("Enum:")
}

impl ModulePath {
    /// Follows `ModuleVisitor::enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !is_variant(container) {
            self.parts.push(name.to_owned());
            container.clone_into(&mut self.container);
        }
    }

    /// Follows `ModuleVisitor::exit_module`.
    pub fn exit(&mut self, container: &str) {
        if !is_variant(container) {
            self.parts.pop();
        }
    }

    /// The names.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Whether the parameter that has just been entered is the weight of a linear layer.
    pub fn is_linear_weight(&self) -> bool {
        self.container == "Struct:Linear" && self.parts.last().is_some_and(|name| name == "weight")
    }
}

/// The names with dots between them.
impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}
