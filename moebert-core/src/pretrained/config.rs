//! `config.json`: what it says of the model, and every other key it has.

use std::path::Path;

use burn::tensor::DType;
use masformer_core::{
    MixerSpec, Span,
    pretrained::{
        CONFIG_FILE, FolderError, Keys, MODEL_TYPE, check_kiln_layers, check_weight_forms,
        kiln_model_type, read_activation, read_config, read_kiln, set_dtype, without_kiln_prefix,
        write_activation, write_kiln,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    bert::Bert, deberta_v2::DebertaV2, distilbert::DistilBert, electra::Electra, family::Family,
    roberta::Roberta,
};
use crate::{bert::BertConfig, expert_files::SETTINGS_FILE, file::FileError, heads::Head};

/// The families, one file each.
const FAMILIES: [&dyn Family; 5] = [&Bert, &DebertaV2, &DistilBert, &Electra, &Roberta];

/// The key of what a family's own keys cannot say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KilnKey {
    /// The file with the experts' settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<Span>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mixers: Option<Vec<MixerSpec>>,
    /// What methods made of the layers.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    structure: Map<String, Value>,
    /// The forms of weights that are no plain matrices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weights: Vec<String>,
}

impl KilnKey {
    /// The `model_type` without the prefix.
    fn name(&self, family: &dyn Family) -> &'static str {
        if self.experts.is_some() {
            family.expert_type()
        } else {
            family.model_type()
        }
    }
}

/// What the names of classes without a name begin with in Transformers.
const UNNAMED: &str = "LABEL_";

/// The family of a `model_type`, whether or not only Kiln reads its folders.
fn family_of(model_type: &str) -> Option<&'static dyn Family> {
    let name = without_kiln_prefix(model_type);
    let mut families = FAMILIES.into_iter();
    families.find(|family| [family.model_type(), family.expert_type()].contains(&name))
}

/// The class of the tokenizers of a `model_type`, for folders that name none; `None` for a model that is no encoder.
pub fn tokenizer_class(model_type: &str) -> Option<&'static str> {
    family_of(model_type).map(Family::tokenizer)
}

/// The encoder that the keys of a family describe, with attention over everything.
fn read_encoder(family: &dyn Family, keys: Keys<'_>) -> Result<BertConfig, FileError> {
    let encoder = family.read(keys)?;
    Ok(BertConfig {
        hidden_act: read_activation(keys, family.activation(), encoder.hidden_act)?,
        ..encoder
    })
}

/// A model's configuration with the keys of `config.json` that we do not know, kept in their order.
#[derive(Clone, Debug)]
pub struct PretrainedConfig {
    /// The encoder. Whether it has a pooler is not in `config.json` but in the weights.
    pub bert: BertConfig,
    family: &'static dyn Family,
    /// What the head predicts.
    head: Head,
    /// Whether `architectures` says so.
    is_named: bool,
    has_experts: bool,
    structure: Map<String, Value>,
    weights: Vec<String>,
    json: Map<String, Value>,
}

impl PretrainedConfig {
    /// The configuration of a BERT that was made here.
    pub fn new(bert: BertConfig, head: Head) -> Self {
        Self::of_family(&Bert, bert, head)
    }

    /// The configuration of another model of the same family that was made here.
    pub fn of_same_family(&self, bert: BertConfig, head: Head) -> Self {
        Self::of_family(self.family, bert, head)
    }

    fn of_family(family: &'static dyn Family, bert: BertConfig, head: Head) -> Self {
        Self {
            bert,
            family,
            head,
            is_named: true,
            has_experts: false,
            structure: Map::new(),
            weights: vec![],
            json: Map::new(),
        }
    }

    /// The family, whose keys and names the folder has.
    pub(super) fn family(&self) -> &'static dyn Family {
        self.family
    }

    /// What the head predicts.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Whether `architectures` says what the head predicts; otherwise its weights do.
    pub(super) fn names_head(&self) -> bool {
        self.is_named
    }

    /// The same model with the head that its weights are.
    pub(super) fn with_head(self, head: Head) -> Self {
        Self { head, ..self }
    }

    /// Whether the model was saved with expert layers.
    pub fn has_experts(&self) -> bool {
        self.has_experts
    }

    /// The same model with what methods made of its layers.
    pub(super) fn with_structure(self, structure: Map<String, Value>) -> Self {
        Self { structure, ..self }
    }

    /// The same model with weights of these forms.
    pub(super) fn with_weights(self, weights: Vec<String>) -> Self {
        Self { weights, ..self }
    }

    /// What methods made of its layers.
    pub(super) fn structure(&self) -> &Map<String, Value> {
        &self.structure
    }

    /// The names of the classes in their order, as `id2label` has them; `None` where some class has
    /// no name but its number's, `LABEL_0`.
    pub fn labels(&self) -> Option<Vec<&str>> {
        let Head::Classification { classes } = self.head else {
            return None;
        };
        let names = self.json.get("id2label")?;
        (0..classes)
            .map(|id| names.get(id.to_string())?.as_str())
            .map(|name| name.filter(|name| !name.starts_with(UNNAMED)))
            .collect()
    }

    /// Every key as it was read, in order.
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// Reads `config.json`. Where it does not say what the head predicts, there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no JSON object, or holds a value that is wrong or not
    /// supported; the error names the key.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let json = read_config(path)?;
        let keys = Keys { path, json: &json };
        let expected = "{\"spans\": [..]} with a span for each layer, {\"mixers\": [..]} with a mixer for each, \
                        {\"experts\": ..}, {\"structure\": {..}}, {\"weights\": [..]}, or several of them";
        let kiln: KilnKey = read_kiln(keys, expected)?;
        let families = FAMILIES.map(|family| format!("\"{}\"", family.model_type()));
        let families = families.join(" or ");
        let found = keys.get(MODEL_TYPE, String::new(), &families)?;
        let family = family_of(&found).ok_or_else(|| keys.wrong(MODEL_TYPE, families))?;
        let model_type = kiln_model_type(kiln.name(family), &kiln);
        if found != model_type {
            return Err(keys.wrong(MODEL_TYPE, format!("\"{model_type}\"")));
        }
        let bert = read_encoder(family, keys)?;
        check_weight_forms(keys, &kiln.weights)?;
        check_kiln_layers(keys, kiln.spans.as_ref(), bert.num_hidden_layers, expected)?;
        check_kiln_layers(keys, kiln.mixers.as_ref(), bert.num_hidden_layers, expected)?;
        let head = named_head(family, keys)?;
        Ok(Self {
            bert: BertConfig {
                spans: kiln.spans.unwrap_or_default(),
                mixers: kiln.mixers.map_or(bert.mixers, MixerSpec::compact),
                ..bert
            },
            family,
            head: head.unwrap_or(Head::Encoder),
            is_named: head.is_some(),
            has_experts: kiln.experts.is_some(),
            structure: kiln.structure,
            weights: kiln.weights,
            json,
        })
    }

    /// The keys to write for a model with this head, whose classes are called `labels`; an
    /// empty list leaves the names as they are. Keys that we do not know stay.
    pub(super) fn to_json(
        &self,
        head: Head,
        labels: &[&str],
        spans: &[Span],
        mixers: &[MixerSpec],
        has_experts: bool,
        dtype: DType,
    ) -> Map<String, Value> {
        let mut json = self.json.clone();
        self.family.write(&self.bert, &mut json);
        let class = class(self.family, head);
        json.insert("architectures".to_owned(), json!([class]));
        write_activation(&mut json, self.family.activation(), self.bert.hidden_act);
        let keys = Keys {
            path: Path::new(CONFIG_FILE),
            json: &json,
        };
        let says_head = matches!(named_head(self.family, keys), Ok(Some(named)) if named == head);
        let is_new = self.json.is_empty() || head != self.head;
        if is_new || !says_head || !labels.is_empty() {
            set_labels(&mut json, head, labels);
        }
        set_dtype(&mut json, dtype);
        let usual = self.read_back(&json).map(|said| said.mixers);
        let own = MixerSpec::compact(mixers.to_vec());
        let is_usual = usual.is_ok_and(|usual| usual == own);
        let is_local = spans.iter().any(|span| *span != Span::Full);
        let kiln = KilnKey {
            experts: has_experts.then(|| SETTINGS_FILE.to_owned()),
            spans: is_local.then(|| spans.to_vec()),
            mixers: (!is_usual).then(|| mixers.to_vec()),
            structure: self.structure.clone(),
            weights: self.weights.clone(),
        };
        write_kiln(&mut json, kiln.name(self.family), &kiln);
        json
    }

    /// The encoder that the family's keys say.
    fn read_back(&self, json: &Map<String, Value>) -> Result<BertConfig, FileError> {
        let path = Path::new(CONFIG_FILE);
        read_encoder(self.family, Keys { path, json })
    }

    /// The mixers of a model of this family with so many layers, unless it was given others; empty for attention everywhere.
    pub fn usual_mixers(&self, layers: usize) -> Vec<MixerSpec> {
        let said = self.read_back(&self.json);
        let usual = said.ok().and_then(|said| said.mixers.into_iter().next());
        usual.map_or(vec![], |mixer| vec![mixer; layers])
    }

    /// Checks that the family's keys say what the model is.
    ///
    /// # Errors
    ///
    /// If they cannot.
    pub(super) fn check_said(&self, json: &Map<String, Value>) -> Result<(), FolderError> {
        let read = self.read_back(json)?;
        // What other keys or the weights say.
        let said = BertConfig {
            pooler: self.bert.pooler,
            spans: self.bert.spans.clone(),
            mixers: self.bert.mixers.clone(),
            ..read
        };
        let (own, said) = (json!(self.bert), json!(said));
        let mut fields = own.as_object().into_iter().flatten();
        match fields.find(|(field, value)| said.get(field) != Some(value)) {
            None => Ok(()),
            Some((field, _)) => Err(FolderError::Foreign {
                model_type: self.family.model_type(),
                field: field.clone(),
                needed: said[field].to_string(),
            }),
        }
    }
}

/// Writes the labels of a task in the place of those that were there. A label without a name is
/// called by its number.
fn set_labels(json: &mut Map<String, Value>, head: Head, names: &[&str]) {
    for key in ["num_labels", "id2label", "label2id", "problem_type"] {
        json.shift_remove(key);
    }
    if let Head::Classification { .. } | Head::Regression = head {
        let labels = 0..head.outputs().unwrap_or(0);
        let name = |label: usize| match names.get(label) {
            Some(name) => (*name).to_owned(),
            None => format!("{UNNAMED}{label}"),
        };
        let id2label: Map<_, _> = labels
            .clone()
            .map(|id| (id.to_string(), name(id).into()))
            .collect();
        let label2id: Map<_, _> = labels.map(|id| (name(id), id.into())).collect();
        json.insert("id2label".to_owned(), id2label.into());
        json.insert("label2id".to_owned(), label2id.into());
        let problem = match head {
            Head::Regression => "regression",
            _ => "single_label_classification",
        };
        json.insert("problem_type".to_owned(), problem.into());
    }
}

/// The class of Transformers for a head.
fn class(family: &dyn Family, head: Head) -> String {
    let rest = match head {
        Head::Encoder => "Model",
        Head::Classification { .. } | Head::Regression => "ForSequenceClassification",
        Head::SpanQa => "ForQuestionAnswering",
    };
    format!("{}{rest}", family.class())
}

/// What the head predicts by the class of Transformers that `architectures` names; `None` where it names
/// none that is known.
fn named_head(family: &dyn Family, keys: Keys<'_>) -> Result<Option<Head>, FileError> {
    let architectures = keys.get("architectures", Vec::<String>::new(), "a list of names")?;
    let Some(name) = architectures.first() else {
        return Ok(None);
    };
    if *name == class(family, Head::Regression) {
        return sequence_head(keys, None).map(Some);
    }
    let mut others = [Head::Encoder, Head::SpanQa].into_iter();
    let named = others.find(|head| *name == class(family, *head));
    // Their classifiers, too, are called so, and are none of sequences.
    let is_other = name.contains("TokenClassification") || name.contains("MultipleChoice");
    Ok(named.or(is_other.then_some(Head::Encoder)))
}

/// What a classifier of sequences predicts, whose weights have `rows`, where they are known.
pub(super) fn sequence_head(keys: Keys<'_>, rows: Option<usize>) -> Result<Head, FileError> {
    let names = keys.get("id2label", Map::new(), "an object of label names")?;
    let said = match keys.json.get("num_labels") {
        None | Some(Value::Null) => (!names.is_empty()).then_some(("id2label", names.len())),
        Some(_) => Some(("num_labels", keys.size("num_labels", 1)?)),
    };
    let labels = match (rows, said) {
        (Some(rows), Some((key, said))) if said != rows => {
            let expected = format!("{rows}, as many labels as the weights of the classifier have");
            return Err(keys.wrong(key, expected));
        }
        (Some(rows), _) => rows,
        // Two is what Transformers takes where nothing is written.
        (None, said) => said.map_or(2, |(_, labels)| labels),
    };
    let problem = keys.get("problem_type", String::new(), "a string")?;
    match (problem.as_str(), labels) {
        ("" | "regression", 1) => Ok(Head::Regression),
        ("" | "single_label_classification", classes) => Ok(Head::Classification { classes }),
        ("regression", _) => Err(keys.wrong(
            "problem_type",
            format!("a classification for {labels} labels, or one label"),
        )),
        _ => Err(keys.wrong(
            "problem_type",
            "\"single_label_classification\" or \"regression\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use masformer_core::{Activation, pretrained::Layout};

    use super::{
        super::family::{EncoderLayout, head_name},
        *,
    };

    const SMALL: &str = r#"{
        "zeta": [1, {"kept": null}],
        "model_type": "bert",
        "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16,
        "layer_norm_eps": 1e-12,
        "alpha": "kept"
    }"#;

    fn read(json: &str) -> Result<PretrainedConfig, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, json).unwrap();
        PretrainedConfig::read(&path)
    }

    /// The small configuration with more keys before its own.
    fn with(keys: &str) -> Result<PretrainedConfig, FileError> {
        read(&SMALL.replacen('{', &format!("{{{keys},"), 1))
    }

    #[track_caller]
    fn assert_message(result: Result<PretrainedConfig, FileError>, expected: &str) {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("config.json"), "{message}");
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn every_name_of_every_family_comes_back() {
        for family in FAMILIES {
            for head in [Head::Encoder, Head::Regression, Head::SpanQa] {
                let layout = EncoderLayout::new(family, head, true);
                let names = layout.names();
                let above = [
                    (family.pooler(head), "pooler."),
                    (head_name(family, head), "head."),
                ];
                let above = above
                    .into_iter()
                    .filter_map(|(file, module)| Some((file?, module)));
                let above = above.map(|(file, module)| (file.to_owned(), module));
                let encoder = family.names().into_iter();
                let encoder =
                    encoder.map(|(file, module)| (family.prefix().to_owned() + file, module));
                for (file, module) in encoder.chain(above) {
                    let fill = |name: &str| name.replace("{l}", "11");
                    let parameter = if module.ends_with("norm.") {
                        "gamma"
                    } else {
                        "weight"
                    };
                    let prefix = if module == "head." { "" } else { "bert." };
                    let module = prefix.to_owned() + &fill(module) + parameter;
                    let file = fill(&file) + "weight";
                    assert_eq!(names.in_model(&file), [module.as_str()]);
                    assert_eq!(names.in_file(&module), file);
                }
            }
        }
    }

    #[test]
    fn every_family_says_what_it_reads() {
        for family in FAMILIES {
            let model_type = family.model_type();
            // One family has no default for the other key.
            let keys = json!({ "model_type": model_type, "relative_attention": true });
            let config = read(&keys.to_string()).unwrap();
            let fresh = config.of_same_family(config.bert.clone(), Head::SpanQa);
            for (has_experts, name) in [(false, model_type), (true, family.expert_type())] {
                let spans = vec![Span::Full; config.bert.num_hidden_layers];
                let json = fresh.to_json(
                    Head::SpanQa,
                    &[],
                    &spans,
                    &config.bert.mixers,
                    has_experts,
                    DType::F32,
                );
                fresh.check_said(&json).unwrap();
                let prefix = if has_experts { "kiln-" } else { "" };
                assert_eq!(json["model_type"], format!("{prefix}{name}"));
                let again = read(&Value::from(json).to_string()).unwrap();
                assert_eq!((&again.bert, again.head()), (&config.bert, Head::SpanQa));
                assert_eq!(again.has_experts(), has_experts);
            }
        }
    }

    #[test]
    fn what_a_family_has_not_is_refused_by_its_field() {
        let config = read(SMALL).unwrap();
        for (bert, expected) in [
            (
                config.bert.clone().with_embedding_size(Some(4)),
                "a `bert` cannot have the `embedding_size` of this model: expected null",
            ),
            (
                config.bert.clone().with_pooler_dropout(None),
                "a `bert` cannot have the `pooler_dropout` of this model: expected 0.0",
            ),
        ] {
            let config = config.of_same_family(bert, Head::Encoder);
            let json = config.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
            let error = config.check_said(&json).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn absent_keys_have_the_defaults_of_transformers() {
        let config = read(SMALL).unwrap();
        assert_eq!(config.bert.hidden_size, 8);
        assert_eq!(config.bert.vocab_size, 30522);
        assert_eq!(config.head(), Head::Encoder);
    }

    #[test]
    fn unknown_keys_keep_value_and_place() {
        let config = read(SMALL).unwrap();
        let json = config.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
        assert_eq!(json["architectures"], json!(["BertModel"]));
        assert_eq!(json["zeta"], json!([1, {"kept": null}]));
        let keys: Vec<_> = json.keys().map(String::as_str).collect();
        assert_eq!(keys[..2], ["zeta", "model_type"]);
        assert_eq!(keys[6..8], ["layer_norm_eps", "alpha"]);
    }

    #[test]
    fn tasks_are_those_of_transformers() {
        let sequence = r#""architectures": ["BertForSequenceClassification"]"#;
        let head = |keys: &str| with(&format!("{sequence}{keys}")).unwrap().head();
        let three = r#", "id2label": {"0": "no", "1": "maybe", "2": "yes"}"#;
        assert_eq!(head(""), Head::Classification { classes: 2 });
        assert_eq!(head(three), Head::Classification { classes: 3 });
        assert_eq!(head(r#", "id2label": {"0": "LABEL_0"}"#), Head::Regression);
        assert_eq!(
            head(r#", "num_labels": 1, "problem_type": "single_label_classification""#),
            Head::Classification { classes: 1 }
        );
        let qa = with(r#""architectures": ["BertForQuestionAnswering"]"#).unwrap();
        assert_eq!(qa.head(), Head::SpanQa);
        assert_message(
            with(&format!(
                r#"{sequence}, "problem_type": "multi_label_classification""#
            )),
            "`problem_type` is \"multi_label_classification\"; expected",
        );
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let bert = read(SMALL).unwrap().bert;
        for head in [
            Head::Encoder,
            Head::Classification { classes: 1 },
            Head::Classification { classes: 5 },
            Head::Regression,
            Head::SpanQa,
        ] {
            // Once made here, and once changed from another task.
            for config in [
                PretrainedConfig::new(bert.clone(), head),
                read(SMALL).unwrap(),
            ] {
                let json = config.to_json(head, &[], &[], &[], false, DType::F32);
                let again = read(&Value::from(json).to_string()).unwrap();
                assert_eq!((again.head(), &again.bert), (head, &bert));
            }
        }
    }

    #[test]
    fn activations_have_their_names_again() {
        for (name, activation) in [
            ("gelu_python", Activation::Gelu),
            ("gelu_fast", Activation::GeluTanh),
            ("swish", Activation::Silu),
        ] {
            let config = with(&format!(r#""hidden_act": "{name}""#)).unwrap();
            assert_eq!(config.bert.hidden_act, activation);
            let json = config.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
            assert_eq!(json["hidden_act"], name);
        }
        let json = read(SMALL).unwrap();
        let json = json.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
        assert_eq!(json["hidden_act"], "gelu");
    }

    #[test]
    fn only_known_classes_name_the_head() {
        let names = |class: &str| with(&format!(r#""architectures": ["{class}"]"#)).unwrap();
        for class in [
            "BertModel",
            "BertForTokenClassification",
            "BertForMultipleChoice",
        ] {
            assert!(names(class).names_head(), "{class}");
            assert_eq!(names(class).head(), Head::Encoder);
        }
        for class in ["BertForPreTraining", "MyBertClassifier"] {
            assert!(!names(class).names_head(), "{class}");
        }
        assert!(!read(SMALL).unwrap().names_head());
    }

    #[test]
    fn an_expert_model_is_no_bert_to_others() {
        let config = read(SMALL).unwrap();
        let json = config.to_json(Head::Encoder, &[], &[], &[], true, DType::F32);
        assert_eq!(json["model_type"], "kiln-moebert");
        let experts = read(&Value::from(json).to_string()).unwrap();
        assert!(experts.has_experts());
        let dense = experts.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
        assert_eq!(dense["model_type"], "bert");
        assert!(!dense.contains_key("kiln"));
    }

    #[test]
    fn a_bert_with_spans_is_none_to_others() {
        let config = read(SMALL).unwrap();
        let spans: Vec<Span> = vec!["window:128".parse().unwrap()];
        for (has_experts, model_type) in [(false, "kiln-bert"), (true, "kiln-moebert")] {
            let json = config.to_json(Head::Encoder, &[], &spans, &[], has_experts, DType::F32);
            assert_eq!(json["model_type"], model_type);
            let local = read(&Value::from(json).to_string()).unwrap();
            assert_eq!(local.bert.spans, spans);
            assert_eq!(local.has_experts(), has_experts);
            let full = local.to_json(Head::Encoder, &[], &[Span::Full], &[], false, DType::F32);
            assert_eq!(full["model_type"], "bert");
            assert!(!full.contains_key("kiln"));
        }
    }

    #[test]
    fn classes_have_the_names_they_were_given() {
        let head = Head::Classification { classes: 2 };
        let read_names = |config: &PretrainedConfig, names: &[&str]| {
            let json = config.to_json(head, names, &[], &[], false, DType::F32);
            read(&Value::from(json).to_string()).unwrap()
        };
        let unnamed = read_names(&read(SMALL).unwrap(), &[]);
        assert_eq!(unnamed.labels(), None);
        let named = read_names(&unnamed, &["no", "yes"]);
        assert_eq!(named.labels(), Some(vec!["no", "yes"]));
        assert_eq!(named.json()["label2id"], json!({"no": 0, "yes": 1}));
        assert_eq!(read_names(&named, &[]).labels(), named.labels());
        let other = read_names(&named, &["negative", "positive"]);
        assert_eq!(other.labels(), Some(vec!["negative", "positive"]));
    }

    #[test]
    fn the_written_type_is_named() {
        let config = with(r#""torch_dtype": "float16""#).unwrap();
        let json = config.to_json(Head::Encoder, &[], &[], &[], false, DType::F32);
        assert_eq!(json["torch_dtype"], "float32");
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_is() {
        for (keys, expected) in [
            (
                r#""hidden_act": "mish""#,
                r#"`hidden_act` is "mish"; expected one of gelu, "#,
            ),
            (
                r#""position_embedding_type": "relative_key""#,
                r#"`position_embedding_type` is "relative_key"; expected "absolute""#,
            ),
            (
                r#""is_decoder": true"#,
                "`is_decoder` is true; expected false",
            ),
            (
                r#""vocab_size": 0"#,
                "`vocab_size` is 0; expected a whole number above 0",
            ),
            (
                r#""vocab_size": "many""#,
                r#"`vocab_size` is "many"; expected a whole number"#,
            ),
            (
                r#""hidden_dropout_prob": 1.5"#,
                "`hidden_dropout_prob` is 1.5; expected a prob",
            ),
            (
                r#""initializer_range": -1"#,
                "`initializer_range` is -1; expected a number above 0",
            ),
        ] {
            assert_message(with(keys), expected);
        }
        assert_message(
            read(r#"{"model_type": "albert"}"#),
            r#"`model_type` is "albert"; expected "bert""#,
        );
        assert_message(
            read(r#"{"model_type": "kiln-moebert"}"#),
            r#"`model_type` is "kiln-moebert"; expected "bert""#,
        );
        for (kiln, expected) in [
            (
                r#"{"experts": "experts.json"}"#,
                r#"`model_type` is "bert"; expected "kiln-moebert""#,
            ),
            (
                r#"{"spans": ["window:2"]}"#,
                r#"`model_type` is "bert"; expected "kiln-bert""#,
            ),
            (r#"{"spans": ["windw:2"]}"#, "unknown span `windw:2`"),
            (r#"{"span": []}"#, "unknown field `span`"),
        ] {
            assert_message(with(&format!(r#""kiln": {kiln}"#)), expected);
        }
        let two = SMALL.replace(
            r#""bert""#,
            r#""kiln-bert", "kiln": {"spans": ["full", "full"]}"#,
        );
        assert_message(read(&two), "with a span for each layer");
        assert_message(
            read(r#"{"hidden_size": 8}"#),
            "`model_type` is absent; expected \"bert\"",
        );
        assert_message(
            read(&SMALL.replace(r#""num_attention_heads": 2"#, r#""num_attention_heads": 3"#)),
            "`num_attention_heads` is 3; expected a divisor of `hidden_size`, 8",
        );
        assert_message(read("[]"), "config.json");
        assert_message(read("{\"model_type\": "), "EOF");
    }
}
