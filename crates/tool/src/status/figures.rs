//! Figures: numbers, times and names as people read them in a terminal.

use crate::columns::grouped;

/// How many characters long a bar is.
const BAR: usize = 20;

/// A full bar means complete: one that is a hundredth short looks short.
pub(super) fn bar(done: i64, of: i64) -> String {
    let full = percentage(done, of) * BAR / 100;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

/// Rounded down, so that a hundred means complete.
pub(super) fn percent(done: i64, of: i64) -> String {
    if of <= 0 { "- %".to_owned() } else { format!("{} %", percentage(done, of)) }
}

/// From 0 to 100.
fn percentage(done: i64, of: i64) -> usize {
    if of <= 0 { 0 } else { usize::try_from(done.clamp(0, of) * 100 / of).unwrap_or(0) }
}

/// A time in its largest unit that leaves two digits or more where it can: `90 s`, `12 min`, `30 h`, `5 d`.
pub(super) fn lasting(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 172_800.0 => format!("{:.0} h", (s / 3_600.0).floor()),
        s => format!("{:.0} d", (s / 86_400.0).floor()),
    }
}

/// A size in powers of a thousand.
pub(super) fn bytes(bytes: i64) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// A pace: with a decimal where it is slow.
pub(super) fn rounded(pace: f64) -> String {
    if pace > 0.0 && pace < 9.95 { format!("{pace:.1}") } else { grouped(pace.round() as i64) }
}

/// What came from outside must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let times: Vec<_> =
            [0.2, 119.0, 120.0, 7_199.0, 7_200.0, 172_800.0].into_iter().map(lasting).collect();
        assert_eq!(times, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);

        let sizes: Vec<_> = [0, 999_949, 40_200_000, 8_000_000_000].into_iter().map(bytes).collect();
        assert_eq!(sizes, ["0 kB", "1000 kB", "40.2 MB", "8.0 GB"]);

        let paces: Vec<_> = [0.0, 0.04, 9.94, 9.96, 12_345.6].into_iter().map(rounded).collect();
        assert_eq!(paces, ["0", "0.0", "9.9", "10", "12,346"]);
    }

    #[test]
    fn only_a_complete_batch_has_a_full_bar() {
        assert_eq!(bar(99_999, 100_000), format!("[{}-]", "#".repeat(19)));
        assert_eq!(bar(100_000, 100_000), format!("[{}]", "#".repeat(20)));
        assert_eq!((bar(0, 0), percent(0, 0)), (format!("[{}]", "-".repeat(20)), "- %".to_owned()));
    }
}
