//! Rounds become medians, medians become ratios, and both become a table for people and JSON for programs.

use std::fs;

use serde_json::{Value, json};

use super::number::compact;

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// The machine that a figure belongs to.
pub fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.unwrap_or("unknown"),
        "virtual": cpu.contains("hypervisor"),
        "memory_mib": kib.and_then(|kib| kib.parse::<u64>().ok()).map(|kib| kib / 1024),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_at_start": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
    })
}

/// A table whose first column is text and whose others are numbers.
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[impl AsRef<str>]) -> Self {
        Self { columns: columns.iter().map(|column| column.as_ref().to_owned()).collect(), rows: Vec::new() }
    }

    /// `None` shows as a dash: not known here, which is not the same as 0.
    pub fn row(&mut self, name: &str, values: &[Option<f64>]) {
        let values = values.iter().map(|value| value.map_or_else(|| "–".to_owned(), compact));
        self.cells(std::iter::once(name.to_owned()).chain(values).collect());
    }

    /// A row that is text already, one cell a column.
    pub fn cells(&mut self, mut cells: Vec<String>) {
        cells.resize(self.columns.len(), "–".to_owned());
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In Markdown, aligned, so that it reads the same on a terminal.
    pub fn render(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.columns[i].chars().count(), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(&widths).enumerate().map(|(i, (cell, &width))| {
                if i == 0 { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
            });
            format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
        };
        let rules: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(i, &width)| if i == 0 { "-".repeat(width) } else { "-".repeat(width - 1) + ":" })
            .collect();
        let mut text = line(&mut self.columns.iter().map(String::as_str));
        text += &line(&mut rules.iter().map(String::as_str));
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_table_is_aligned_markdown_and_shows_what_is_not_known() {
        let mut table = Table::new(&["what", "a"]);
        table.row("one", &[Some(1234.5)]);
        table.row("x", &[None]);
        assert_eq!(table.render(), "| what |     a |\n| ---- | ----: |\n| one  | 1,234 |\n| x    |     – |\n");
    }
}
