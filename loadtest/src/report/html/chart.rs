//! One plot as SVG: axes, lines, and what happened meanwhile. Everything to be seen is drawn here; the page's script
//! only adds what the pointer is at, from the `data-` attributes.

use super::markup::Markup;
use super::thin::Thinned;
use crate::report::number::{clock, compact};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Pixels of a label's character, about.
const CHARACTER: f64 = 6.0;

/// What the x axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Seconds of the run.
    Time,
    /// Decades of the share of values above: 0 is all of them, 2 one in a hundred.
    Share,
}

/// How y is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    Log,
}

pub struct Line {
    pub name: String,
    /// Which colour of the palette.
    pub hue: usize,
    pub dashed: bool,
    pub points: Thinned,
}

impl Line {
    /// All that is to be seen of it.
    fn known(&self) -> impl Iterator<Item = f64> {
        let band = self.points.band.iter().flatten().flat_map(|(least, greatest)| [*least, *greatest]);
        self.points.values.iter().flatten().copied().chain(band)
    }
}

/// Something that happened, with its number in the table.
pub struct Span {
    pub number: usize,
    pub from: f64,
    pub until: Option<f64>,
    pub what: String,
}

pub struct Chart<'a> {
    pub title: String,
    pub unit: &'static str,
    pub along: Along,
    pub scale: Scale,
    /// Where x ends; it begins at 0.
    pub until: f64,
    pub height: f64,
    pub lines: Vec<Line>,
    pub spans: &'a [Span],
}

impl Chart<'_> {
    /// Nothing where no line has a value.
    pub fn draw(&self) -> Markup {
        let mut m = Markup::new();
        let known: Vec<f64> = self.lines.iter().flat_map(Line::known).collect();
        if known.is_empty() {
            return m;
        }
        let y = Y::over(&known, self.scale, TOP, self.height - BOTTOM);
        let until = if self.until > 0.0 { self.until } else { 1.0 };
        let x = |at: f64| LEFT + at.clamp(0.0, until) / until * (WIDTH - LEFT - RIGHT);

        m.raw("<figure><figcaption><h4>")
            .text(&self.title)
            .raw(" <small>")
            .text(self.unit)
            .raw("</small></h4><ul class=\"legend\">");
        for line in &self.lines {
            m.raw("<li><svg viewBox=\"0 0 22 8\" aria-hidden=\"true\"><path class=\"line ");
            m.raw(hue(line.hue)).raw(dashes(line.dashed)).raw("\" d=\"M1 4H21\"/></svg>").text(&line.name).raw("</li>");
        }
        m.raw("</ul></figcaption><svg class=\"plot\" role=\"img\" viewBox=\"0 0 960 ").place(self.height);
        m.raw("\" data-along=\"").raw(if self.along == Along::Time { "time" } else { "share" });
        m.raw("\" data-unit=\"").text(self.unit).raw("\" data-until=\"").text(brief(until));
        if let Some(line) = self.lines.first().filter(|_| self.along == Along::Time) {
            m.raw("\" data-x=\"").text(numbers(line.points.at.iter().copied().map(Some)));
        }
        m.raw("\"><title>").text(&self.title).raw("</title><desc>").text(self.description()).raw("</desc>");
        self.grid(&mut m, &y, &x, until);
        self.happened(&mut m, &x);
        for line in &self.lines {
            band(&mut m, line, &x, &y);
        }
        for line in &self.lines {
            m.raw("<path class=\"line ").raw(hue(line.hue)).raw(dashes(line.dashed)).raw("\" data-name=\"");
            m.text(&line.name).raw("\" data-y=\"").text(numbers(line.points.values.iter().copied()));
            if !line.points.band.is_empty() {
                let of = |which: fn((f64, f64)) -> f64| numbers(line.points.band.iter().map(|ends| ends.map(which)));
                m.raw("\" data-low=\"").text(of(|ends| ends.0)).raw("\" data-high=\"").text(of(|ends| ends.1));
            }
            if self.along == Along::Share {
                m.raw("\" data-x=\"").text(numbers(line.points.at.iter().copied().map(Some)));
            }
            m.raw("\" d=\"");
            trace(&mut m, line, &x, &y);
            m.raw("\"/>");
        }
        m.raw("</svg></figure>\n");
        m
    }

    /// What the picture shows, for those who don't see it.
    fn description(&self) -> String {
        let told = self.lines.iter().filter_map(|line| {
            let last = line.points.values.iter().flatten().copied().last()?;
            let (least, greatest) = line.known().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
            let [least, greatest, last] = [least, greatest, last].map(compact);
            Some(format!("{}: least {least}, greatest {greatest}, last {last} {}", line.name, self.unit))
        });
        told.collect::<Vec<_>>().join("; ")
    }

    fn grid(&self, m: &mut Markup, y: &Y, x: &impl Fn(f64) -> f64, until: f64) {
        let floor = self.height - BOTTOM;
        m.raw("<g class=\"grid\">");
        for tick in y.ticks() {
            let at = y.place(tick);
            m.raw("<path d=\"M")
                .place(LEFT)
                .raw(" ")
                .place(at)
                .raw("H")
                .place(WIDTH - RIGHT)
                .raw("\"/><text class=\"y\" x=\"");
            m.place(LEFT - 6.0).raw("\" y=\"").place(at + 4.0).raw("\">").text(compact(tick)).raw("</text>");
        }
        let ticks: Vec<(f64, String)> = match self.along {
            Along::Time => time_ticks(until).into_iter().map(|t| (t, clock(t))).collect(),
            Along::Share => (0..=until.floor() as i32).map(|n| (f64::from(n), percentile(n))).collect(),
        };
        for (tick, label) in ticks {
            m.raw("<path class=\"tick\" d=\"M")
                .place(x(tick))
                .raw(" ")
                .place(floor)
                .raw("v5\"/><text class=\"x\" x=\"");
            let room = label.chars().count() as f64 * CHARACTER / 2.0;
            m.place(x(tick).min(WIDTH - room)).raw("\" y=\"").place(floor + 18.0).raw("\">").text(label).raw("</text>");
        }
        m.raw("</g>");
    }

    fn happened(&self, m: &mut Markup, x: &impl Fn(f64) -> f64) {
        let mut taken = LEFT;
        for (i, span) in self.spans.iter().enumerate() {
            let (from, until) = (x(span.from), x(span.until.unwrap_or(span.from)));
            m.raw("<g class=\"mark\"><title>").text(span.number).raw(": ").text(&span.what).raw("</title><rect x=\"");
            m.place(from)
                .raw("\" y=\"")
                .place(TOP)
                .raw("\" width=\"")
                .place((until - from).max(1.0))
                .raw("\" height=\"");
            m.place(self.height - TOP - BOTTOM).raw("\"/><path d=\"M").place(from).raw(" ").place(TOP).raw("V");
            m.place(self.height - BOTTOM).raw("\"/>");
            // The number where it fits, and the words where there is room until the next.
            let next = self.spans.get(i + 1).map_or(WIDTH, |next| x(next.from));
            let number = span.number.to_string();
            let fits = ((next - from - 8.0) / CHARACTER).floor().max(0.0) as usize;
            if from >= taken {
                let label = format!("{number} {}", span.what);
                let label = if label.chars().count() <= fits {
                    label
                } else if fits >= 9 {
                    label.chars().take(fits - 1).chain(['…']).collect()
                } else {
                    number
                };
                taken = from + (label.chars().count() as f64 + 0.5) * CHARACTER;
                m.raw("<text x=\"")
                    .place(from.min(WIDTH - 14.0))
                    .raw("\" y=\"")
                    .place(TOP - 6.0)
                    .raw("\">")
                    .text(label)
                    .raw("</text>");
            }
            m.raw("</g>");
        }
    }
}

fn trace(m: &mut Markup, line: &Line, x: &impl Fn(f64) -> f64, y: &Y) {
    let mut drawing = false;
    for (i, (at, value)) in line.points.at.iter().zip(&line.points.values).enumerate() {
        match value {
            Some(value) if drawing => {
                m.raw("L").place(x(*at)).raw(" ").place(y.place(*value));
            }
            Some(value) => {
                m.raw("M").place(x(*at)).raw(" ").place(y.place(*value));
                // A value between two gaps is a dot.
                if line.points.values.get(i + 1).copied().flatten().is_none() {
                    m.raw("h.01");
                }
            }
            None => {}
        }
        drawing = value.is_some();
    }
}

/// From the least to the greatest value of each stretch, as one area for each part without a gap.
fn band(m: &mut Markup, line: &Line, x: &impl Fn(f64) -> f64, y: &Y) {
    let ends: Vec<Option<(f64, (f64, f64))>> =
        line.points.at.iter().zip(&line.points.band).map(|(at, ends)| Some((x(*at), (*ends)?))).collect();
    for part in ends.split(Option::is_none).filter(|part| !part.is_empty()) {
        m.raw("<path class=\"band ").raw(hue(line.hue)).raw("\" d=\"");
        let there = part.iter().flatten().map(|(x, (_, greatest))| (*x, *greatest));
        let back = part.iter().rev().flatten().map(|(x, (least, _))| (*x, *least));
        for (i, (x, value)) in there.chain(back).enumerate() {
            m.raw(if i == 0 { "M" } else { "L" }).place(x).raw(" ").place(y.place(value));
        }
        m.raw("Z\"/>");
    }
}

/// The y axis.
struct Y {
    scale: Scale,
    /// What is at the bottom and at the top, in the scale's own measure.
    low: f64,
    high: f64,
    top: f64,
    bottom: f64,
}

/// A microsecond, in milliseconds: below it, nothing is told apart.
const LEAST: f64 = 0.001;

impl Y {
    fn over(values: &[f64], scale: Scale, top: f64, bottom: f64) -> Self {
        let greatest = values.iter().copied().fold(0.0, f64::max);
        let (low, high) = match scale {
            Scale::Linear => {
                let step = nice(greatest.max(1e-6) / 4.0);
                (0.0, (greatest.max(1e-6) / step).ceil() * step)
            }
            Scale::Log => {
                let least = values.iter().copied().fold(f64::MAX, f64::min).max(LEAST);
                let low = round(least, false).log10();
                let high = round(greatest.max(least), true).log10();
                (low, if high - low < 0.3 { low + 1.0 } else { high })
            }
        };
        Self { scale, low, high, top, bottom }
    }

    fn place(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(LEAST).log10(),
        };
        let share = ((at - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.bottom - share * (self.bottom - self.top)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice(self.high / 4.0);
                (0..=8).map(|n| f64::from(n) * step).filter(|tick| *tick <= self.high * 1.001).collect()
            }
            Scale::Log => {
                let decades = self.low.floor() as i32..=self.high.ceil() as i32;
                let room = (self.bottom - self.top) / (self.high - self.low);
                let each: &[f64] = if room >= 55.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let within = |tick: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&tick.log10());
                decades.flat_map(|n| each.iter().map(move |m| m * 10f64.powi(n))).filter(within).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten: the nearest that is not less.
fn nice(step: f64) -> f64 {
    round(step, true)
}

fn round(value: f64, up: bool) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits =
        |step: &&f64| if up { decade * **step >= value * 0.999_999 } else { decade * **step <= value * 1.000_001 };
    let step = if up { steps.iter().find(fits) } else { steps.iter().rev().find(fits) };
    decade * step.copied().unwrap_or(1.0)
}

fn time_ticks(until: f64) -> Vec<f64> {
    const STEPS: [f64; 15] =
        [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];
    let step = STEPS.into_iter().find(|step| until / step <= 12.0).unwrap_or(until / 12.0);
    (0..=12).map(|n| f64::from(n) * step).filter(|tick| *tick <= until).collect()
}

/// The quantile above which one in 10ⁿ lies: `90`, `99`, `99.9` %.
fn percentile(n: i32) -> String {
    match n {
        ..=0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        n => format!("99.{} %", "9".repeat(n as usize - 2)),
    }
}

fn hue(n: usize) -> &'static str {
    const HUES: [&str; 8] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"];
    HUES[n % HUES.len()]
}

fn dashes(dashed: bool) -> &'static str {
    if dashed { " dashed" } else { "" }
}

/// Four significant digits: enough for a tooltip, and short.
fn brief(value: f64) -> String {
    let decimals = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Separated by blanks; a gap is a dash.
fn numbers(values: impl Iterator<Item = Option<f64>>) -> String {
    values.map(|value| value.map_or_else(|| "-".to_owned(), brief)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart<'a>(scale: Scale, values: Vec<Option<f64>>, spans: &'a [Span]) -> Chart<'a> {
        let at: Vec<f64> = (0..values.len()).map(|i| i as f64).collect();
        let until = at.last().copied().unwrap_or(0.0);
        let points = Thinned { at, values, band: vec![] };
        let line = Line { name: "ack".to_owned(), hue: 1, dashed: false, points };
        Chart {
            title: "t".to_owned(),
            unit: "ms",
            along: Along::Time,
            scale,
            until,
            height: 200.0,
            lines: vec![line],
            spans,
        }
    }

    fn path(svg: &str) -> &str {
        let line = svg.split("data-y=").nth(1).unwrap();
        line.split(" d=\"").nth(1).unwrap().split('"').next().unwrap()
    }

    #[test]
    fn nothing_known_is_no_picture_and_one_value_is_a_dot() {
        assert!(chart(Scale::Log, vec![], &[]).draw().finish().is_empty());
        assert!(chart(Scale::Linear, vec![None, None], &[]).draw().finish().is_empty());
        for scale in [Scale::Linear, Scale::Log] {
            for value in [0.0, 3.0] {
                let svg = chart(scale, vec![Some(value)], &[]).draw().finish();
                assert!(path(&svg).ends_with("h.01"), "{svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn a_gap_parts_the_line_and_higher_values_are_higher() {
        let svg = chart(Scale::Log, vec![Some(1.0), Some(10.0), None, Some(100.0), Some(1.0)], &[]).draw().finish();
        assert_eq!(path(&svg).matches('M').count(), 2);
        assert!(svg.contains("data-y=\"1 10 - 100 1\"") && svg.contains("<desc>ack: least 1, greatest 100, last 1 ms"));
        let y = Y::over(&[1.0, 100.0], Scale::Log, 0.0, 100.0);
        assert_eq!([1.0, 10.0, 100.0].map(|v| y.place(v)), [100.0, 50.0, 0.0]);
    }

    #[test]
    fn a_thinned_line_is_drawn_with_its_band_and_the_axis_reaches_over_it() {
        let mut chart = chart(Scale::Log, vec![Some(5.0), Some(6.0), None, Some(5.0)], &[]);
        chart.lines[0].points.band = vec![Some((1.0, 9.0)), Some((1.0, 4_321.0)), None, Some((2.0, 8.0))];
        let svg = chart.draw().finish();
        assert_eq!(svg.matches("class=\"band h1\"").count(), 2);
        assert!(svg.contains("greatest 4,321") && svg.contains(">1,000</text>"), "{svg}");
        assert!(svg.contains("data-high=\"9 4321 - 8\""));
    }

    #[test]
    fn axes_have_round_ticks_that_reach_over_the_values() {
        let y = Y::over(&[3.0, 5_130.0], Scale::Linear, 0.0, 100.0);
        assert_eq!(y.ticks(), [0.0, 2_000.0, 4_000.0, 6_000.0]);
        let y = Y::over(&[0.03, 870.0], Scale::Log, 0.0, 100.0);
        assert_eq!(y.ticks(), [0.1, 1.0, 10.0, 100.0, 1_000.0]);
        let y = Y::over(&[0.03, 0.4], Scale::Log, 0.0, 100.0);
        assert_eq!(y.ticks(), [0.02, 0.05, 0.1, 0.2, 0.5]);
        assert_eq!(time_ticks(130.0).last(), Some(&120.0));
        assert!(time_ticks(14_400.0).len() <= 13);
        assert_eq!([0, 1, 2, 3, 5].map(percentile), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
    }

    #[test]
    fn marks_are_shaded_titled_and_labelled_where_there_is_room() {
        let span =
            |number: usize, from, what: &str| Span { number, from, until: Some(from + 1.0), what: what.to_owned() };
        let spans = [span(1, 2.0, "killed"), span(2, 50.0, "frozen"), span(3, 50.2, "cut off")];
        let svg = chart(Scale::Linear, vec![Some(1.0); 100], &spans).draw().finish();
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(
            svg.contains("<title>3: cut off</title>") && svg.contains(">1 killed</text>") && svg.contains(">2</text>")
        );
        assert!(!svg.contains(">3 cut off</text>"), "it would be written over the 2");
    }
}
