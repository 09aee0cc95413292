//! Inputs longer than the positions of the checkpoint.

use masformer_core::PositionExtension;

use super::*;

const NAME: &str = "gpt2-tiny";
const POSITIONS: usize = 640;
const LONGER: usize = 900;
const EXTENSIONS: [PositionExtension; 2] =
    [PositionExtension::Tile, PositionExtension::Interpolate];

fn extended(how: PositionExtension) -> DecoderFolder {
    open_fixture(NAME).with_length(LONGER, Some(how)).unwrap()
}

fn table(model: &Decoder) -> TensorData {
    model.position.as_ref().unwrap().weight.val().into_data()
}

/// The logits of a model for the first tokens of the longer input.
fn logits(model: &Decoder, length: usize) -> Tensor<3> {
    let ids = tensor(&fixture(NAME).join("longer.safetensors"), "input_ids");
    let ids = Tensor::<2, Int>::from_data(ids, &device());
    let input = DecoderInput {
        input_ids: ids.slice_dim(1, 0..length),
        padding: None,
    };
    model.forward(&input, &mut Trace::nothing()).logits
}

#[test]
fn logits_are_those_of_transformers_with_the_same_table() {
    let path = fixture(NAME).join("longer.safetensors");
    let positions = Tensor::<1, Int>::from_data(tensor(&path, "positions"), &device());
    for how in EXTENSIONS {
        let model = load(&extended(how));
        let found = logits(&model, LONGER).select(1, positions.clone());
        let expected = Tensor::from_data(tensor(&path, &format!("logits.{how}")), &device());
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        println!("{how}: the largest difference is {difference:e}");
        assert!(difference <= TOLERANCE, "{how} differs by {difference:e}");
    }
}

#[test]
fn tiling_leaves_the_first_positions_as_they_were() {
    let (before, after) = (load(&open_fixture(NAME)), load(&extended(EXTENSIONS[0])));
    let (old, new) = (table(&before), table(&after));
    assert_eq!(new.shape()[..], [LONGER, 24]);
    let (old, new): (Vec<f32>, Vec<f32>) = (old.iter().collect(), new.iter().collect());
    assert_eq!(new[..old.len()], old);
    assert_eq!(new[old.len()..], old[..(LONGER - POSITIONS) * 24]);
    let logits = |model| logits(model, POSITIONS).into_data();
    logits(&after).assert_eq(&logits(&before), true);
}

#[test]
fn a_saved_folder_has_the_longer_table_and_says_so() {
    for how in EXTENSIONS {
        let (dir, model) = save_folder(&extended(how));
        let json = config(dir.path());
        assert_eq!(json["n_positions"], LONGER);
        assert_eq!(json["model_type"], "gpt2");
        table(&open(dir.path())).assert_eq(&table(&model), true);
    }
}

/// See `transformers_reads_what_is_saved`.
#[test]
#[ignore = "needs Python with Transformers"]
fn transformers_reads_extended_positions() {
    for how in EXTENSIONS {
        let (dir, _) = save_folder(&extended(how));
        assert!(
            transformers_agrees(dir.path(), &[&how.to_string()]),
            "{how}"
        );
    }
}

#[test]
fn the_length_is_what_was_asked_for_last_and_never_less_than_the_checkpoint_has() {
    let tile = Some(PositionExtension::Tile);
    let folder = open_fixture(NAME).with_length(700, tile).unwrap();
    let folder = folder.with_length(LONGER, tile).unwrap();
    table(&load(&folder)).assert_eq(&table(&load(&extended(PositionExtension::Tile))), true);
    for how in [None, tile] {
        let folder = open_fixture(NAME).with_length(8, how).unwrap();
        assert_eq!(folder.config().decoder.positions, POSITIONS);
        table(&load(&folder)).assert_eq(&table(&load(&open_fixture(NAME))), true);
    }
    let error = open_fixture(NAME).with_length(641, None).unwrap_err();
    let expected = "gpt2-tiny: 641 tokens are more than the 640 positions of the model";
    assert!(error.to_string().contains(expected), "{error}");
    let scaled = open_fixture(NAME).with_length(641, Some(PositionExtension::ScaleBase));
    let expected = "`scale-base` cannot extend a table of learned positions";
    assert!(scaled.unwrap_err().to_string().contains(expected));
}

/// A decoder with rotary positions, saved as a folder.
fn rotary(theta: f32) -> (TempDir, Decoder) {
    let decoder = DecoderConfig::new(50, 16, 8, 2, 16, spans(&["full", "window:3"]))
        .with_initializer_range(0.5)
        .with_position_encoding(PositionEncoding::Rotary { theta });
    let model = decoder.init(&device());
    let dir = tempfile::tempdir().unwrap();
    let folder = DecoderFolderConfig::new("gpt2", decoder).unwrap();
    save_decoder(dir.path(), &model, &folder, None).unwrap();
    (dir, model)
}

#[test]
fn rotary_positions_are_saved_and_read_by_kiln_alone() {
    let (dir, model) = rotary(500.0);
    let json = config(dir.path());
    assert_eq!(json["model_type"], "kiln-gpt2");
    let expected = serde_json::json!({
        "spans": ["full", "window:3"],
        "position_encoding": {"rotary": {"theta": 500.0}},
    });
    assert_eq!(json["kiln"], expected);
    assert!(DecoderFolder::is_in(dir.path()).unwrap());
    let again = open(dir.path());
    assert!(again.position.is_none());
    let logits = |model| logits(model, 16).into_data();
    logits(&again).assert_eq(&logits(&model), true);
    let learned = DecoderFolder::open(&dir).unwrap();
    let learned = learned.with_spans(spans(&["full"; 2])).unwrap();
    let (dir, _) = save_folder(&learned);
    assert_eq!(config(dir.path())["kiln"].as_object().unwrap().len(), 1);
    assert_eq!(open(dir.path()).spans(), spans(&["full"; 2]));
}

#[test]
fn rotary_positions_are_extended_by_their_base() {
    let (dir, _) = rotary(10_000.0);
    let folder = DecoderFolder::open(&dir).unwrap();
    let scale = Some(PositionExtension::ScaleBase);
    let folder = folder.with_length(64, scale).unwrap();
    // Heads are 4 wide: 4^(4 / 2) times the base.
    let theta = PositionEncoding::Rotary { theta: 160_000.0 };
    assert_eq!(folder.config().decoder.position_encoding, theta);
    let (longer, model) = save_folder(&folder);
    let again = DecoderFolder::open(&longer).unwrap();
    assert_eq!(again.config().decoder.position_encoding, theta);
    assert_eq!(again.config().decoder.positions, 64);
    let all = logits(&model, 64).into_data();
    logits(&load(&again), 64).into_data().assert_eq(&all, true);
    let tiled = DecoderFolder::open(&dir).unwrap();
    let tiled = tiled.with_length(64, Some(PositionExtension::Tile));
    let expected = "`tile` cannot extend rotary positions: expected `scale-base`";
    assert!(tiled.unwrap_err().to_string().contains(expected));
}
