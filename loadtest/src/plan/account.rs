//! The sum as it is written down: each step a line of arithmetic with units and the names of the costs in it.

use serde::Serialize;

/// One line of the sum.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub section: &'static str,
    pub what: &'static str,
    /// The arithmetic with its result, for people.
    pub sum: String,
    /// The result, in `unit`.
    pub value: f64,
    pub unit: &'static str,
    /// Keys of the costs used.
    pub costs: Vec<&'static str>,
}

/// Steps in their order, and what is to be held against the result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Account {
    pub steps: Vec<Step>,
    pub warnings: Vec<String>,
}

impl Account {
    /// `result` is shown behind the sum as it is given.
    pub fn step(
        &mut self,
        (section, what): (&'static str, &'static str),
        sum: impl AsRef<str>,
        (value, unit): (f64, &'static str),
        costs: &[&'static str],
    ) {
        let sum = format!("{} = {}", sum.as_ref(), show(value, unit));
        self.steps.push(Step { section, what, sum, value, unit, costs: costs.to_vec() });
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for step in &self.steps {
            if step.section != section {
                section = step.section;
                text += &format!("\n{section}\n");
            }
            let costs = if step.costs.is_empty() { String::new() } else { format!("  [{}]", step.costs.join(", ")) };
            text += &format!("  {}: {}{costs}\n", step.what, step.sum);
        }
        text
    }
}

/// A value with its unit; bytes in the unit that suits them.
pub fn show(value: f64, unit: &str) -> String {
    match unit {
        "B" => bytes(value),
        "B/s" => format!("{}/s", bytes(value)),
        "" => number(value),
        "cores" | "nodes" | "shards" if value == 1.0 => format!("1 {}", unit.trim_end_matches('s')),
        _ => format!("{} {unit}", number(value)),
    }
}

/// `1 core`, `2 cores`.
pub fn counted(value: f64, what: &str) -> String {
    format!("{} {what}{}", number(value), if value == 1.0 { "" } else { "s" })
}

/// Four significant digits, none lost of a whole number below a billion; thousands set apart.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.3e}");
    }
    let digits = match size {
        _ if size.fract() == 0.0 || size >= 999.95 => 0,
        _ if size >= 99.995 => 1,
        _ if size >= 9.9995 => 2,
        _ if size >= 0.99995 => 3,
        _ if size >= 1e-6 => (3.0 - size.log10().floor()) as usize,
        _ => 12,
    };
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 && digit != '-' && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let part = part.trim_end_matches('0');
    if part.is_empty() { grouped } else { format!("{grouped}.{part}") }
}

/// In powers of ten, as disks and links are sold.
pub fn bytes(value: f64) -> String {
    let units = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let fits = units.iter().find(|(size, _)| value >= 10.0 * size || (value >= *size && value >= 1e6));
    match fits {
        Some((size, unit)) => format!("{} {unit}", number(value / size)),
        None => format!("{} B", number(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_and_lose_nothing_that_matters() {
        let shown = [0.0, 0.00012, 0.6, 8.15, 12.345, 123.45, 1234.6, 1e6, 12_345_678.0, -1234.0].map(number);
        assert_eq!(
            shown,
            ["0", "0.00012", "0.6", "8.15", "12.35", "123.5", "1,235", "1,000,000", "12,345,678", "-1,234"]
        );
        assert_eq!(
            [999.0, 3_978.0, 76_900.0, 1.5e6, 2.5e13].map(bytes),
            ["999 B", "3,978 B", "76.9 kB", "1.5 MB", "25 TB"]
        );
        assert_eq!(show(2.0, "cores"), "2 cores");
    }

    #[test]
    fn a_step_shows_its_sum_and_its_costs() {
        let mut account = Account::default();
        account.step(("work", "deliveries"), "2/s × 3", (6.0, "/s"), &["a", "b"]);
        assert_eq!(account.render(), "\nwork\n  deliveries: 2/s × 3 = 6 /s  [a, b]\n");
    }
}
