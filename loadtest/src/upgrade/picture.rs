//! The picture of an upgrade, for documents: sessions of each node over time, one above the other, what was done when, and
//! how long sends waited meanwhile. One SVG file that needs nothing else; it brings its own paper, for dark pages too.

use std::fmt::Write;

use crate::report::number::compact;
use crate::report::outcome::{Outcome, Series};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 60.0;
/// Of the sessions, and of the waits below them.
const SESSIONS: f64 = 230.0;
const GAP: f64 = 46.0;
const WAITS: f64 = 110.0;
const LINE: f64 = 16.0;

/// Shades of the release from before, and of the other.
const SHADES: [[&str; 3]; 2] = [["#0072b2", "#4aa3dc", "#9bd4f7"], ["#d55e00", "#f28e3c", "#f6c48b"]];

/// `releases`: the names of the two, the one from before first.
pub fn draw(run: &Outcome, releases: [&str; 2]) -> String {
    let until = run.timeline.last().map_or(1.0, |second| second.at_s + 1.0);
    let x = |at: f64| LEFT + at.clamp(0.0, until) / until * (WIDTH - LEFT - RIGHT);
    let stack = Stacked::of(&run.series, until);
    let (most, session_ticks) = scale(stack.most().max(1.0));
    let (floor, waits_floor) = (TOP + SESSIONS, TOP + SESSIONS + GAP + WAITS);
    let y = |value: f64| floor - value / most * SESSIONS;
    let legend_rows = run.marks.len().div_ceil(3) as f64;
    let height = waits_floor + 34.0 + (1.0 + legend_rows) * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1c2128\">\n<title>Sessions per node while {} \
         is replaced by {} and back</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n",
        escaped(releases[0]),
        escaped(releases[1])
    );
    let mut put = |text: String| svg.push_str(&(text + "\n"));
    put(text(LEFT, 18.0, "start", "#1c2128", "Sessions per node, one above the other"));
    let mut number = [0; 2];
    for (name, lower, upper) in stack.areas() {
        let release = usize::from(!name.starts_with(&format!("{} ", releases[0])));
        let shade = SHADES[release][number[release] % 3];
        number[release] += 1;
        let along = |edge: &[f64]| -> Vec<(f64, f64)> {
            stack.times.iter().zip(edge).map(|(&at, &value)| (x(at), y(value))).collect()
        };
        let (there, mut back) = (along(&upper), along(&lower));
        back.reverse();
        let path: Vec<String> = there.iter().chain(&back).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let title = escaped(&name);
        put(format!("<path d=\"M{}Z\" fill=\"{shade}\"><title>{title}</title></path>", path.join("L")));
    }
    put(axis(&session_ticks, &y));
    // What was done when.
    for (place, mark) in run.marks.iter().enumerate() {
        let (from, to) = (x(mark.at_s), x(mark.until_s.unwrap_or(mark.at_s)));
        put(format!(
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\" fill=\"#1c2128\" opacity=\".1\"/>",
            (to - from).max(1.0),
            waits_floor - TOP
        ));
        put(text(
            from.midpoint(to),
            TOP - 6.0 - LINE * 0.75 * f64::from(place as u32 % 2),
            "middle",
            "#59636e",
            &(place + 1).to_string(),
        ));
        let (column, row) = ((place % 3) as f64, (place / 3) as f64);
        let told = mark.longest_wait_ms.map_or_else(String::new, |ms| format!(" ({ms:.0} ms)"));
        let line = format!("{} {}{told}", place + 1, mark.what);
        put(text(LEFT + column * 300.0, waits_floor + 34.0 + (1.0 + row) * LINE, "start", "#59636e", &line));
    }
    // The longest wait of a send that was due in each second.
    let waits: Vec<(f64, f64)> =
        run.timeline.iter().filter_map(|second| Some((second.at_s, second.longest_wait_ms?))).collect();
    let (longest, wait_ticks) = scale(waits.iter().map(|&(_, ms)| ms).fold(1.0, f64::max));
    let tall = |ms: f64| waits_floor - ms / longest * WAITS;
    put(text(LEFT, floor + GAP - 12.0, "start", "#1c2128", "Longest wait of a send for its ack, ms, retries included"));
    for &(at, ms) in &waits {
        let (left, right) = (x(at), x(at + 1.0));
        put(format!(
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#7d858e\"/>",
            tall(ms),
            (right - left - 1.0).max(0.5),
            waits_floor - tall(ms)
        ));
    }
    put(axis(&wait_ticks, &tall));
    let step = if until > 100.0 { 20.0 } else { 10.0 };
    let mut at = 0.0;
    while at <= until {
        put(text(x(at), waits_floor + 16.0, "middle", "#59636e", &format!("{at} s")));
        at += step;
    }
    // Whose is which.
    for (place, (name, shades)) in releases.iter().zip(SHADES).enumerate() {
        let left = 420.0 + 250.0 * place as f64;
        for (i, shade) in shades.iter().enumerate() {
            put(format!(
                "<rect x=\"{}\" y=\"8\" width=\"12\" height=\"12\" fill=\"{shade}\"/>",
                left + 13.0 * i as f64
            ));
        }
        put(text(left + 46.0, 18.0, "start", "#1c2128", &format!("nodes of {name}")));
    }
    svg + "</svg>\n"
}

/// Where an axis ends that reaches over `most`, and its ticks: at most five, round.
fn scale(most: f64) -> (f64, Vec<f64>) {
    let decade = 10f64.powf((most / 4.0).log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * decade).into_iter().find(|step| step * 4.0 >= most).unwrap_or(most);
    let count = (most / step).ceil();
    (count * step, (0..=count as u32).map(|n| f64::from(n) * step).collect())
}

fn axis(ticks: &[f64], y: &impl Fn(f64) -> f64) -> String {
    let mut lines = String::new();
    for &tick in ticks {
        let at = y(tick);
        let _ = write!(lines, "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#1c2128\" opacity=\".15\"/>", WIDTH - RIGHT);
        lines += &text(LEFT - 6.0, at + 4.0, "end", "#59636e", &compact(tick));
    }
    lines
}

fn text(x: f64, y: f64, anchor: &str, fill: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>", escaped(words))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// All lines at the same times.
struct Stacked<'a> {
    times: Vec<f64>,
    series: &'a [Series],
}

impl<'a> Stacked<'a> {
    fn of(series: &'a [Series], until: f64) -> Self {
        let mut times: Vec<f64> = series.iter().flat_map(|one| one.points.iter().map(|&(at, _)| at)).collect();
        times.retain(|at| (0.0..=until).contains(at));
        times.sort_by(f64::total_cmp);
        times.dedup();
        Self { times, series }
    }

    /// The last known value; 0 before the first and behind the last, which is the process' end.
    fn value(one: &Series, at: f64) -> f64 {
        let behind = one.points.partition_point(|&(known, _)| known <= at);
        if behind == 0 { 0.0 } else { one.points[behind - 1].1 }
    }

    fn most(&self) -> f64 {
        let sum = |&at: &f64| self.series.iter().map(|one| Self::value(one, at)).sum();
        self.times.iter().map(sum).fold(0.0, f64::max)
    }

    /// Name, lower edge and upper edge of each.
    fn areas(&self) -> Vec<(String, Vec<f64>, Vec<f64>)> {
        let mut below = vec![0.0; self.times.len()];
        let area = |one: &Series| {
            let values = self.times.iter().map(|&at| Self::value(one, at));
            let above: Vec<f64> = below.iter().zip(values).map(|(below, value)| below + value).collect();
            (one.name.clone(), std::mem::replace(&mut below, above.clone()), above)
        };
        self.series.iter().map(area).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn nodes_stand_on_each_other_and_end_with_their_processes() {
        let mut run = sample::outcome();
        let series = |name: &str, points: &[(f64, f64)]| Series { name: name.to_owned(), points: points.to_vec() };
        run.series = vec![
            series("v1 1", &[(0.0, 4.0), (1.0, 4.0), (2.0, 0.0)]),
            series("<v2> 1", &[(1.0, 0.0), (2.0, 4.0), (3.0, 4.0)]),
        ];
        let stack = Stacked::of(&run.series, 10.0);
        assert_eq!((stack.times.as_slice(), stack.most()), (&[0.0, 1.0, 2.0, 3.0][..], 4.0));
        assert_eq!(scale(60.0), (60.0, vec![0.0, 20.0, 40.0, 60.0]));
        assert_eq!(scale(1_521.0).0, 2_000.0);
        assert_eq!(scale(1.0).1.len(), 5);
        let areas = stack.areas();
        assert_eq!(areas[0].2, [4.0, 4.0, 0.0, 0.0]);
        assert_eq!(
            (areas[1].1.as_slice(), areas[1].2.as_slice()),
            (&[4.0, 4.0, 0.0, 0.0][..], &[4.0, 4.0, 4.0, 4.0][..])
        );
        let svg = draw(&run, ["v1", "<v2>"]);
        assert!(svg.contains("nodes of &lt;v2&gt;") && !svg.contains("<v2>") && !svg.contains("NaN"));
        assert!(svg.contains(SHADES[0][0]) && svg.contains(SHADES[1][0]));
        assert!(svg.contains(">1 node 2 killed (-9) (880 ms)</text>"), "{svg}");
    }
}
