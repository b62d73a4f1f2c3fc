//! Line charts as SVG text.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// Colours that can be told apart, also with reduced colour vision (Okabe and Ito 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A named line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Drawn with dashes: the second of two reports.
    pub(super) dashed: bool,
    /// Lines of the same number have the same colour.
    pub(super) colour: usize,
}

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// For times: short and long ones are both seen.
    Logarithmic,
    /// For percentiles: each step is one nine more.
    Nines,
}

impl Scale {
    fn at(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(1e-3).log10(),
            Scale::Nines => -(1.0 - (value / 100.0).min(0.999_999)).log10(),
        }
    }

    /// Values that get a mark, and what is written there.
    fn marks(self, low: f64, high: f64) -> Vec<(f64, String)> {
        match self {
            Scale::Nines => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
                .iter()
                .filter(|mark| self.at(**mark) <= self.at(high) + 1e-9)
                .map(|mark| (*mark, format!("{mark} %")))
                .collect(),
            Scale::Logarithmic => {
                let (low, high) =
                    (low.max(1e-3).log10().floor() as i32, high.max(1e-3).log10().ceil() as i32);
                (low..=high).map(|power| (10f64.powi(power), short(10f64.powi(power)))).collect()
            }
            Scale::Linear => {
                let step = nice((high - low).max(1e-12) / 5.0);
                let first = (low / step).ceil() as i64;
                let last = (high / step + 1e-9).floor() as i64;
                (first..=last).map(|at| (at as f64 * step, short(at as f64 * step))).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].iter().map(|times| times * power).find(|nice| *nice >= step).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", value / 1e6),
        size if size >= 1e4 => format!("{}k", value / 1e3),
        _ => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// What a chart says.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// How to read it, in a sentence.
    pub(super) caption: &'static str,
    pub(super) x: (&'static str, Scale),
    pub(super) y: (&'static str, Scale),
    pub(super) lines: Vec<Line>,
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Chart {
    /// The chart as a figure; nothing when there is nothing to draw.
    pub(super) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|p| p.1.is_finite());
        if points().next().is_none() {
            return String::new();
        }
        let range = |scale: Scale, value: fn(&(f64, f64)) -> f64| {
            let all = points().map(value);
            let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
            let low = if scale == Scale::Linear && low < 0.5 * high { low.min(0.0) } else { low };
            (low, if high > low { high } else { low + low.abs() * 0.1 + 1e-3 })
        };
        let (x, y) = (range(self.x.1, |p| p.0), range(self.y.1, |p| p.1));
        let frame =
            Frame { x: (self.x.1.at(x.0), self.x.1.at(x.1)), y: (self.y.1.at(y.0), self.y.1.at(y.1)) };
        let mut svg = String::new();
        self.draw_marks(&frame, x, y, &mut svg);
        self.lines.iter().for_each(|line| self.draw_line(&frame, line, &mut svg));
        format!(
            "<figure><h3>{}</h3><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>{svg}</svg>{}<figcaption>{}</figcaption></figure>\n",
            self.title,
            self.legend(),
            self.caption
        )
    }

    fn place(&self, frame: &Frame, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |at: f64, (low, high): (f64, f64)| ((at - low) / (high - low).max(1e-12)).clamp(0.0, 1.0);
        let across = share(self.x.1.at(x), frame.x) * (WIDTH - LEFT - RIGHT);
        let up = share(self.y.1.at(y), frame.y) * (HEIGHT - TOP - BOTTOM);
        (LEFT + across, HEIGHT - BOTTOM - up)
    }

    fn draw_marks(&self, frame: &Frame, x: (f64, f64), y: (f64, f64), svg: &mut String) {
        let inside = |at: f64, (low, high): (f64, f64)| at >= low - 1e-9 && at <= high + 1e-9;
        let foot = HEIGHT - BOTTOM;
        for (value, text) in self.y.1.marks(y.0, y.1) {
            if inside(self.y.1.at(value), frame.y) {
                let (_, at) = self.place(frame, (x.0, value));
                let end = WIDTH - RIGHT;
                let _ = write!(
                    svg,
                    "<line class='grid' x1='{LEFT}' y1='{at:.1}' x2='{end}' y2='{at:.1}'/><text x='{}' y='{:.1}' text-anchor='end'>{text}</text>",
                    LEFT - 6.0,
                    at + 4.0
                );
            }
        }
        for (value, text) in self.x.1.marks(x.0, x.1) {
            if inside(self.x.1.at(value), frame.x) {
                let (at, _) = self.place(frame, (value, y.0));
                let _ = write!(
                    svg,
                    "<line class='grid' x1='{at:.1}' y1='{TOP}' x2='{at:.1}' y2='{foot}'/><text x='{at:.1}' y='{}' text-anchor='middle'>{text}</text>",
                    foot + 15.0
                );
            }
        }
        let middle = (TOP + foot) / 2.0;
        let _ = write!(
            svg,
            "<text class='axis' x='{}' y='{}' text-anchor='middle'>{}</text><text class='axis' transform='translate(13 {middle}) rotate(-90)' text-anchor='middle'>{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 5.0,
            self.x.0,
            self.y.0
        );
    }

    fn draw_line(&self, frame: &Frame, line: &Line, svg: &mut String) {
        let points: Vec<&(f64, f64)> = line.points.iter().filter(|point| point.1.is_finite()).collect();
        let places: Vec<(f64, f64)> = points.iter().map(|point| self.place(frame, **point)).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let colour = COLOURS[line.colour % COLOURS.len()];
        let dashes = if line.dashed { " stroke-dasharray='5 4'" } else { "" };
        let _ = write!(
            svg,
            "<polyline fill='none' stroke='{colour}' stroke-width='2'{dashes} points='{}'/>",
            path.join(" ")
        );
        for ((x, y), point) in places.iter().zip(points) {
            let _ = write!(
                svg,
                "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}' class='dot'><title>{}: {} at {}</title></circle>",
                escaped(&line.name),
                short(point.1),
                short(point.0)
            );
        }
    }

    fn legend(&self) -> String {
        let entry = |line: &Line| {
            let colour = COLOURS[line.colour % COLOURS.len()];
            let style = if line.dashed { "dashed" } else { "solid" };
            format!("<span><i style='border-top:2px {style} {colour}'></i>{}</span>", escaped(&line.name))
        };
        let drawn = self.lines.iter().filter(|line| !line.points.is_empty());
        format!("<p class='legend'>{}</p>", drawn.map(entry).collect::<String>())
    }
}

/// Text that is safe inside a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
