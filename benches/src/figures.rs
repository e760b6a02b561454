//! Figures: the result of a measurement.

/// The result of one measurement, as it is printed.
#[derive(Debug)]
pub(crate) struct Table {
    pub title: &'static str,
    /// How it was measured, in a few sentences.
    pub about: String,
    /// The quantity by which product and peers are compared, if they are.
    pub compared: Option<&'static str>,
    pub figures: Vec<Figure>,
}

/// The result of one subject at one point of one round.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The setting: `64 connections`.
    pub point: String,
    /// The subject: `restante`, or the name of a peer.
    pub subject: String,
    /// Quantities with their units: `("events/s", 12345.0)`.
    pub values: Vec<(&'static str, f64)>,
    /// The part of the machine, 0 to 1, that other processes than the measurement and its subject used.
    pub foreign: f64,
}

/// The name of the product among the subjects.
pub(crate) const PRODUCT: &str = "restante";

impl Table {
    /// The points and subjects, in the order of their first figure.
    pub(crate) fn rows(&self) -> Vec<(&str, &str)> {
        let mut rows = Vec::new();
        for figure in &self.figures {
            let row = (figure.point.as_str(), figure.subject.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows
    }

    /// The quantities, in the order of their first figure.
    pub(crate) fn quantities(&self) -> Vec<&'static str> {
        let mut quantities = Vec::new();
        for (quantity, _) in self.figures.iter().flat_map(|figure| &figure.values) {
            if !quantities.contains(quantity) {
                quantities.push(quantity);
            }
        }
        quantities
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, point: &str, subject: &str, quantity: &str) -> Option<f64> {
        let mut values: Vec<f64> = self
            .of(point, subject)
            .flat_map(|figure| &figure.values)
            .filter(|(name, _)| *name == quantity)
            .map(|(_, value)| *value)
            .collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    /// The largest part of the machine that others used in a round.
    pub(crate) fn foreign(&self, point: &str, subject: &str) -> f64 {
        self.of(point, subject).map(|figure| figure.foreign).fold(0.0, f64::max)
    }

    fn of<'a>(&'a self, point: &'a str, subject: &'a str) -> impl Iterator<Item = &'a Figure> {
        self.figures.iter().filter(move |figure| figure.point == point && figure.subject == subject)
    }
}

/// The percentile of `sorted`, with `hundredths` from 0 to 100.
pub(crate) fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    let index = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// A number with at most two decimals, fewer if it is large; a dash for NaN, nothing for `None`.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.is_nan() => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f64]) -> Table {
        let figure = |value: &f64| Figure {
            point: "point".to_owned(),
            subject: PRODUCT.to_owned(),
            values: vec![("ms", *value)],
            foreign: 0.0,
        };
        Table {
            title: "Title",
            about: String::new(),
            compared: None,
            figures: values.iter().map(figure).collect(),
        }
    }

    #[test]
    fn the_median_is_the_middle_or_lies_between_the_two_in_the_middle() {
        for (values, expected) in
            [(&[][..], None), (&[3.0], Some(3.0)), (&[9.0, 1.0, 2.0], Some(2.0)), (&[1.0, 4.0], Some(2.5))]
        {
            assert_eq!(table(values).median("point", PRODUCT, "ms"), expected, "{values:?}");
        }
        assert_eq!(table(&[1.0]).median("point", "somebody", "ms"), None);
    }

    #[test]
    fn a_percentile_has_so_many_hundredths_below_it() {
        let values: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|hundredths| percentile(&values, hundredths)), [100.0, 198.0, 199.0]);
    }
}
