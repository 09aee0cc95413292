//! `kiln generate`: continuations of texts.

mod transcript;

use std::{
    ops::ControlFlow,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, builder::NonEmptyStringValueParser};
use masformer_core::{
    BeamConfig, Eviction, EvictionSpec, GenerateConfig, GenerateError, Generated, Generator,
    Limits, SampleConfig, Span, Stopped, Strategy, ops::prepack,
};
use serde_json::json;

use self::transcript::Transcript;
use super::variant::VariantArgs;
use crate::{
    backend,
    data::{
        DataError,
        corpus::{Corpus, CorpusError},
    },
    error::Error,
    interrupt::Stop,
    quiet::tell,
    warning::warn,
};

/// Tokens that follow a prompt, unless the command line sets it.
const NEW_TOKENS: usize = 128;

const EXAMPLE: &str = "\
Examples:
  kiln generate MODEL --prompt \"It was\" --temperature 0.8
Read a text in chunks of 256 tokens, keep the 768 that a question attends to:
  kiln generate MODEL --prompt-file report.txt --evict citrus:256 \\
      --budget 768 --instruction \"What was decided?\"";

/// Continue texts with a decoder
///
/// The likeliest token follows, unless --temperature or --beams is given. A continuation ends with
/// an end token of the model folder, before the text of --stop, or after --max-new-tokens. The continuation of
/// one prompt is streamed (a beam search prints it at the end); those of several prompts are printed under
/// headers. An interrupt prints what has been generated. Tokens per second are printed to standard error.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct GenerateArgs {
    /// The model, a decoder (GPT-2, GPT-Neo) with its tokenizer: a Hugging Face folder
    model: PathBuf,
    /// A text to continue; may be given several times. Special tokens of the model count as such. Without
    /// any, or with an empty one, a text begins after the end of another
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// A file with a text to continue, or a folder of .txt files; may be given several times
    #[arg(long, value_name = "FILE")]
    prompt_file: Vec<PathBuf>,
    /// The maximum number of tokens after a prompt [default: 128, or as many as the model has positions for]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<usize>,
    /// Draw tokens at random, from logits divided by this: below 1 likely ones become likelier; 0 takes the
    /// likeliest token
    #[arg(long, conflicts_with = "beams", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw from the K likeliest tokens
    #[arg(long, value_name = "K", requires = "temperature")]
    top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens whose probabilities make up P, above 0 and at most 1 [default:
    /// 1]
    #[arg(long, value_name = "P", requires = "temperature")]
    top_p: Option<f64>,
    /// Seed of the random draws [default: 0]
    #[arg(long, requires = "temperature")]
    seed: Option<u64>,
    /// Search for the likeliest continuation with this many hypotheses
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    beams: Option<u32>,
    /// The power of the length that divides a hypothesis's log-probability; higher prefers longer ones
    #[arg(
        long,
        value_name = "POWER",
        requires = "beams",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    length_penalty: f64,
    /// Make tokens that occur in the prompt or the continuation less likely: divide their positive logits by
    /// P and multiply the negative ones; 1 changes nothing
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    repetition_penalty: f64,
    /// Never repeat N tokens in the order in which they occur in the prompt or the continuation
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// End a continuation before this text
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    stop: Option<String>,
    #[command(flatten)]
    variant: VariantArgs,
    /// Keep only some of the keys and values in layers with full attention, by a policy such as `streaming:4` or `tova`. For models with
    /// rotary positions; only prompts of equal length are read together
    #[arg(
        long,
        value_name = "POLICY",
        requires = "budget",
        conflicts_with = "no_cache"
    )]
    evict: Option<EvictionSpec>,
    /// How many tokens' keys and values --evict keeps in a layer
    #[arg(long, value_name = "TOKENS", requires = "evict")]
    budget: Option<usize>,
    /// A question or a request on the prompts, which stands at their end, and by which --evict chooses
    #[arg(
        long,
        value_name = "TEXT",
        requires = "evict",
        value_parser = NonEmptyStringValueParser::new()
    )]
    instruction: Option<String>,
    /// Decode without a cache: read everything again for each token
    #[arg(long)]
    no_cache: bool,
    /// Print one JSON object per prompt: `prompt`, `text`, `tokens`, and `stopped`, which is `end`, `text`,
    /// `length`, `exhausted` (by --no-repeat-ngram) or `interrupt`
    #[arg(long)]
    json: bool,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    device: Option<String>,
}

/// A text to continue.
struct Prompt {
    /// Its file, or its number.
    name: String,
    text: String,
}

/// Continues the prompts and prints what follows.
///
/// # Errors
/// The model, its tokenizer or a prompt cannot be read, they do not fit together, a number makes no
/// sense, or the user interrupts.
pub fn run(args: &GenerateArgs) -> Result<(), Error> {
    let device = backend::open(args.device.as_deref())?;
    let mut folder = args.variant.decoder(&args.model)?;
    let tokenizer = super::load_text_tokenizer(&folder)?;
    let prompts = args.prompts().map_err(DataError::from)?;
    let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
    let mut ids = tokenizer.encode_prompts(&texts).map_err(DataError::from)?;
    let vocabulary = folder.config().decoder.vocabulary;
    for ids in ids.iter_mut().filter(|ids| ids.is_empty()) {
        ids.push(tokenizer.start_id(vocabulary));
    }
    let instruction = tokenizer.encode(args.instruction.as_slice());
    let instruction = instruction.map_err(DataError::from)?.concat();
    for ids in &mut ids {
        ids.extend(&instruction);
    }
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
    let mut new_tokens = args.max_new_tokens.unwrap_or(NEW_TOKENS);
    if args.variant.extend.is_some() {
        let length = longest.saturating_add(new_tokens);
        folder = args.variant.lengthen(folder, length)?;
    } else if args.max_new_tokens.is_none() && args.evict.is_none() {
        let room = folder.config().decoder.positions.saturating_sub(longest);
        new_tokens = new_tokens.min(room.max(1));
    }
    let stop_tokens = tokenizer.stop_ids(vocabulary);
    let config = args.config(new_tokens, stop_tokens, instruction.len());
    let limits = Limits::from(&folder.config().decoder);
    args.warn_of_ignored(&limits.spans);
    let named = |error| name_prompt(error, &prompts);
    config.check(&ids, &limits).map_err(named)?;

    let stop = Stop::on_signals()?;
    let model = super::load_decoder(&folder, &device)?;
    let _prepacked = prepack(&model);
    let transcript = Transcript::new(&tokenizer, args.stop.as_deref());
    let generator =
        Generator::new(&model, &config).with_rule(|tokens| transcript.is_at_stop(tokens));
    let mut stream = (prompts.len() == 1 && !args.json).then(|| transcript.stream());
    let mut printed = Ok(());
    let mut clock = Clock::start();
    let generated = generator.generate(&ids, |tokens| {
        clock.step();
        if let Some(stream) = &mut stream {
            let text: String = tokens.iter().map(|token| stream.push(token.id)).collect();
            printed = super::print(&text);
        }
        if printed.is_err() || stop.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let generated = generated.map_err(named)?;
    let told = clock.told(&generated);
    printed?;
    super::print(&match stream {
        Some(stream) => stream.finish() + "\n",
        None => args.show(&prompts, &generated, &transcript),
    })?;
    match args.evict {
        Some(_) => tell(&format!(
            "{told}; at most {} pairs kept in a layer",
            generator.peak()
        )),
        None => tell(&told),
    }
    let is_interrupted = |generated: &Generated| generated.stopped == Stopped::Interrupt;
    if generated.iter().any(is_interrupted) {
        return Err(Error::Interrupted {
            exit_code: stop.exit_code(),
        });
    }
    Ok(())
}

impl GenerateArgs {
    /// The prompts of the command line, then those of files.
    fn prompts(&self) -> Result<Vec<Prompt>, CorpusError> {
        let texts = self.prompt.iter().zip(1..).map(|(text, number)| Prompt {
            name: format!("prompt {number}"),
            text: text.clone(),
        });
        let mut prompts: Vec<Prompt> = texts.collect();
        if prompts.is_empty() && self.prompt_file.is_empty() {
            prompts.push(Prompt {
                name: "no prompt".to_owned(),
                text: String::new(),
            });
        }
        for path in &self.prompt_file {
            for document in Corpus::open(path)?.documents() {
                prompts.push(Prompt {
                    name: document.path().display().to_string(),
                    text: document.pieces()?.collect::<Result<_, _>>()?,
                });
            }
        }
        Ok(prompts)
    }

    /// With so many tokens of instruction at the end of each prompt.
    fn config(
        &self,
        max_new_tokens: usize,
        stop_tokens: Vec<u32>,
        instruction: usize,
    ) -> GenerateConfig {
        let evict = self.evict.clone().zip(self.budget);
        let evict = evict.map(|(policy, budget)| Eviction {
            policy,
            budget,
            instruction,
        });
        let strategy = match (self.temperature, self.beams) {
            (Some(0.0), _) | (None, None) => Strategy::Greedy,
            (Some(temperature), _) => Strategy::Sample(SampleConfig {
                temperature,
                top_k: self.top_k,
                top_p: self.top_p.unwrap_or(1.0),
                seed: self.seed.unwrap_or(0),
            }),
            (None, Some(beams)) => Strategy::Beam(BeamConfig {
                beams: beams as usize,
                length_penalty: self.length_penalty,
            }),
        };
        GenerateConfig {
            max_new_tokens,
            strategy,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            stop_tokens,
            cache: !self.no_cache,
            evict,
        }
    }

    /// Names the settings that have no effect: of draws if none are made, of eviction in layers with these spans.
    fn warn_of_ignored(&self, spans: &[Span]) {
        if self.evict.is_some() && !spans.contains(&Span::Full) {
            warn("--evict has no effect: no layer of the model attends to all tokens before");
        }
        let given = [
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        let ignored: Vec<&str> = given.map(|(option, _)| option).collect();
        if self.temperature == Some(0.0) && !ignored.is_empty() {
            let ignored = ignored.join(", ");
            warn(&format!(
                "ignored with --temperature 0, which draws nothing: {ignored}"
            ));
        }
    }

    /// The continuations as they are printed together.
    fn show(&self, prompts: &[Prompt], all: &[Generated], transcript: &Transcript<'_>) -> String {
        let shown = prompts.iter().zip(all).map(|(prompt, generated)| {
            let text = transcript.text(&generated.tokens);
            if !self.json {
                return format!("==> {} <==\n{text}\n", prompt.name);
            }
            let object = json!({
                "prompt": prompt.text,
                "text": text,
                "tokens": generated.tokens,
                "stopped": match generated.stopped {
                    Stopped::Token => "end",
                    Stopped::Rule => "text",
                    Stopped::Length => "length",
                    Stopped::Exhausted => "exhausted",
                    Stopped::Interrupt => "interrupt",
                },
            });
            format!("{object}\n")
        });
        shown.collect()
    }
}

/// Names the prompt that an error is about as the user knows it.
fn name_prompt(error: GenerateError, prompts: &[Prompt]) -> Error {
    match error {
        GenerateError::Prompt { prompt, problem } => Error::Prompt {
            name: prompts[prompt].name.clone(),
            problem,
        },
        error => error.into(),
    }
}

/// Measures a generation.
struct Clock {
    start: Instant,
    /// When the prompts had been read and the first tokens found.
    first: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            first: None,
        }
    }

    fn step(&mut self) {
        self.first.get_or_insert_with(|| self.start.elapsed());
    }

    /// The speed so far.
    fn told(&self, all: &[Generated]) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let tokens: usize = all.iter().map(|generated| generated.tokens.len()).sum();
        let first = self.first.unwrap_or_default().as_secs_f64();
        format!(
            "{tokens} tokens in {seconds:.2} s, {:.1} tokens/s; the first after {first:.2} s",
            tokens as f64 / seconds
        )
    }
}
