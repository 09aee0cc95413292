//! Times and numbers for people.

/// Seconds in a minute, an hour and a day.
const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];

/// The time of day in UTC, such as `12:04:31Z`.
pub fn clock(time: u64) -> String {
    let [hours, minutes, seconds] = [time / 3600 % 24, time / 60 % 60, time % 60];
    format!("{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// A time in its two largest units, such as `20 s`, `8 min` or `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let Some(place) = UNITS.iter().position(|(size, _)| seconds >= *size) else {
        return format!("{seconds} s");
    };
    let (size, name) = UNITS[place];
    let text = format!("{} {name}", seconds / size);
    match UNITS.get(place + 1) {
        Some((smaller, name)) if seconds % size / smaller > 0 => {
            format!("{text} {} {name}", seconds % size / smaller)
        }
        _ => text,
    }
}

/// How many decimals show two digits of half the width of an interval, from `least` to 4.
pub fn decimals(half_width: Option<f64>, least: usize) -> usize {
    const MOST: usize = 4;
    let Some(half_width) = half_width.filter(|width| *width > 0.0) else {
        return least;
    };
    (least..MOST)
        .find(|decimals| half_width * 10_f64.powi(*decimals as i32) >= 3.0)
        .unwrap_or(MOST)
}

/// The fewest characters of a word that is cut.
const SHORTEST_WORD: usize = 5;

/// A text of at most so many characters: its longest words lose their middles, because arms often differ in one word and at
/// its end. If the words would become too short, the text loses its own middle.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let words: Vec<&str> = text.split(' ').collect();
    let room = width.saturating_sub(words.len() - 1);
    if room < words.len() * SHORTEST_WORD {
        return without_middle(text, width);
    }
    let mut lengths: Vec<usize> = words.iter().map(|word| word.chars().count()).collect();
    while lengths.iter().sum::<usize>() > room {
        // Of equal ones the last is cut, so that the order of words decides and nothing else.
        if let Some(longest) = lengths.iter_mut().max() {
            *longest -= 1;
        }
    }
    let words = words.iter().zip(lengths);
    let words: Vec<String> = words
        .map(|(word, length)| without_middle(word, length))
        .collect();
    words.join(" ")
}

/// A text of at most so many characters, without some in its middle if it is longer.
fn without_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    let start: String = text.chars().take(start).collect();
    let end: String = text.chars().skip(length - end).collect();
    let mark = if width > 0 { "…" } else { "" };
    format!("{start}{mark}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        let times = [
            (0.4, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min"),
            (150.0, "2 min"),
            (3600.0, "1 h"),
            (7800.0, "2 h 10 min"),
            (90_000.0, "1 d 1 h"),
        ];
        for (seconds, expected) in times {
            assert_eq!(duration(seconds), expected);
        }
        assert_eq!(clock(1_700_000_071), "22:14:31Z");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(cut("order=random", 12), "order=random");
        assert_eq!(cut("order=random shared=0", 11), "or…om sh…=0");
        assert_eq!(cut("order=random shared=0", 10), "order…ed=0");
        let arm = "order=importance shared=0 student.methods=[experts,layerwise]";
        assert_eq!(cut(arm, 29), "order…ance shared=0 stud…ise]");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn narrow_intervals_get_more_decimals() {
        let widths = [Some(2.1), Some(0.31), Some(0.029), Some(1e-9), None].map(|w| decimals(w, 1));
        assert_eq!(widths, [1, 1, 3, 4, 1]);
    }
}
