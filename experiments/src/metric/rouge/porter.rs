//! Porter's stemmer as NLTK has it, which is what `rouge_score` compares words by.
//!
//! The steps are those of M. F. Porter, *An algorithm for suffix stripping*, Program 14(3), 1980, with
//! his own later changes (`bli`, `logi`) and those of NLTK's default mode: irregular words, `ies` and
//! `ied` of words of four letters, `y` after a consonant, `alli` before the other rules of step 2,
//! `fulli`, and `*o` also of two letters.

/// Words with a stem of their own.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes and what replaces them; the first that a word has is the one that counts.
type Rules = &'static [(&'static str, &'static str)];

const PLURALS: Rules = &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];

const STEP_2: Rules = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: Rules = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: Rules = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// The stem of a word of three or more characters `a` to `z` and `0` to `9`.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    let word = step_1a(word);
    let word = step_1b(&word);
    let word = step_1c(&word);
    let word = step_2(&word);
    let word = replaced(&word, STEP_3, |stem, _| measure(stem) > 0);
    let word = replaced(&word, STEP_4, |stem, suffix| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    });
    step_5(&word)
}

/// Plurals.
fn step_1a(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) if word.len() == 4 => format!("{stem}ie"),
        _ => replaced(word, PLURALS, |_, _| true),
    }
}

/// Past tenses and participles.
fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        let end = if word.len() == 4 { "ie" } else { "i" };
        return format!("{stem}{end}");
    }
    if let Some(stem) = word.strip_suffix("eed") {
        let end = if measure(stem) > 0 { "ee" } else { "eed" };
        return format!("{stem}{end}");
    }
    let mut stems = ["ed", "ing"]
        .into_iter()
        .filter_map(|suffix| word.strip_suffix(suffix));
    let Some(stem) = stems.find(|stem| consonants(stem).contains(&false)) else {
        return word.to_owned();
    };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        format!("{stem}e")
    } else if ends_in_double_consonant(stem) {
        let stays = stem.ends_with(['l', 's', 'z']);
        stem[..stem.len() - usize::from(!stays)].to_owned()
    } else if measure(stem) == 1 && ends_in_syllable(stem) {
        format!("{stem}e")
    } else {
        stem.to_owned()
    }
}

/// `y` after a consonant that is not the first letter.
fn step_1c(word: &str) -> String {
    replaced(word, &[("y", "i")], |stem, _| {
        stem.len() > 1 && consonants(stem).ends_with(&[true])
    })
}

/// Double suffixes.
fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(&format!("{stem}al"));
    }
    // The `l` counts as part of the stem, so that short ones such as `geo` have their measure.
    if let Some(stem) = word.strip_suffix("ogi").filter(|stem| stem.ends_with('l')) {
        let end = if measure(&word[..word.len() - 3]) > 0 {
            "og"
        } else {
            "ogi"
        };
        return format!("{stem}{end}");
    }
    replaced(word, STEP_2, |stem, _| measure(stem) > 0)
}

/// A last `e`, and one of a last `ll`.
fn step_5(word: &str) -> String {
    let word = match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || measure(stem) == 1 && !ends_in_syllable(stem) => stem,
        _ => word,
    };
    let shorter = word
        .strip_suffix('l')
        .filter(|shorter| shorter.ends_with('l'));
    let stem = shorter.filter(|shorter| measure(shorter) > 1);
    stem.unwrap_or(word).to_owned()
}

/// Replaces the first suffix of the rules that the word has, if `holds` for what is before it and the
/// suffix.
fn replaced(word: &str, rules: &[(&str, &str)], holds: impl Fn(&str, &str) -> bool) -> String {
    let mut rules = rules.iter();
    let found = rules.find_map(|(suffix, end)| Some((word.strip_suffix(suffix)?, suffix, end)));
    match found {
        Some((stem, suffix, end)) if holds(stem, suffix) => format!("{stem}{end}"),
        _ => word.to_owned(),
    }
}

/// Which characters are consonants: all but `a`, `e`, `i`, `o`, `u`, and `y` after a consonant.
fn consonants(stem: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(stem.len());
    for byte in stem.bytes() {
        let after_consonant = flags.ends_with(&[true]);
        flags.push(match byte {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !after_consonant,
            _ => true,
        });
    }
    flags
}

/// How often a consonant follows a vowel: `m` of the form `[C](VC)^m[V]`.
fn measure(stem: &str) -> usize {
    let flags = consonants(stem);
    flags.windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

/// Condition `*d`.
fn ends_in_double_consonant(stem: &str) -> bool {
    let [.., one, other] = stem.as_bytes() else {
        return false;
    };
    one == other && consonants(stem).ends_with(&[true])
}

/// Condition `*o`: consonant, vowel, and a consonant that is not `w`, `x` or `y`; or just a vowel and a
/// consonant.
fn ends_in_syllable(stem: &str) -> bool {
    let flags = consonants(stem);
    flags == [false, true]
        || flags.ends_with(&[true, false, true]) && !stem.ends_with(['w', 'x', 'y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the paper, but where NLTK differs.
    #[test]
    fn the_papers_examples_have_its_stems() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("caress", "caress"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("tanned", "tan"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("fizzed", "fizz"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("rational", "ration"),
            ("vietnamization", "vietnam"),
            ("sensibility", "sensibl"),
            ("triplicate", "triplic"),
            ("formalize", "formal"),
            ("electrical", "electr"),
            ("goodness", "good"),
            ("replacement", "replac"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controlling", "control"),
            ("rolling", "roll"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn words_that_nltk_treats_otherwise_have_its_stems() {
        for (word, expected) in [
            ("skies", "sky"),
            ("dies", "die"),
            ("died", "die"),
            ("spied", "spi"),
            ("enjoy", "enjoy"),
            ("fly", "fli"),
            ("naturally", "natur"),
            ("gratefully", "grate"),
            ("geology", "geolog"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
