//! Numbers for people: thousands separated, no more digits than say something.

/// A whole number: `12,345`.
pub fn whole(value: u64) -> String {
    group(&value.to_string())
}

/// Three significant digits, and no digit of a whole number lost: `1,235`, `12.3`, `1.23`, `0.0123`.
pub fn compact(value: f64) -> String {
    let decimals = match value.abs() {
        n if !n.is_finite() => return "–".to_owned(),
        n if n.fract() == 0.0 || n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        n if n >= 0.0995 => 2,
        n if n >= 0.00995 => 3,
        _ => 4,
    };
    group(&format!("{value:.decimals$}"))
}

/// With all its digits up to the fourth decimal, where a limit has to be told from what just misses it.
pub fn exact(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{value:.4}");
    group(text.trim_end_matches('0').trim_end_matches('.'))
}

/// A time of a run: `4.2 s` is too fine for hours and `0:04` too coarse for an axis of seconds, so whole seconds:
/// `0:04`, `12:05`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text += fraction;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_and_digits_kept_only_where_they_say_something() {
        assert_eq!(whole(1_234_567), "1,234,567");
        assert_eq!(whole(999), "999");
        let cases =
            [(0.0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (1.236, "1.24"), (0.0123, "0.012"), (-1e6, "-1,000,000")];
        for (value, text) in cases {
            assert_eq!(compact(value), text);
        }
        assert_eq!(compact(0.0004), "0.0004");
        assert_eq!(compact(f64::NAN), "–");
    }

    #[test]
    fn what_just_misses_a_limit_is_not_shown_as_the_limit() {
        assert_eq!(exact(99.95), "99.95");
        assert_eq!(exact(99.949), "99.949");
        assert_eq!(exact(200.0), "200");
        assert_eq!(exact(1e9), "1,000,000,000");
    }

    #[test]
    fn clocks_show_hours_only_where_there_are_some() {
        assert_eq!(clock(4.4), "0:04");
        assert_eq!(clock(725.0), "12:05");
        assert_eq!(clock(3723.0), "1:02:03");
    }
}
