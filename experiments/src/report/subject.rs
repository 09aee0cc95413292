//! What views look at: the data with what is worked out once.

use crate::report::{data::ReportData, latency::Speeds, measure::Measure, style::Styles};

/// The data of a report with what all views share.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The data.
    pub data: &'a ReportData,
    /// What arms look like.
    pub styles: Styles,
    /// The metric that is shown where one is; none where models have no scores.
    pub measure: Option<Measure>,
    /// Measured times.
    pub speeds: Speeds<'a>,
}

impl<'a> Subject<'a> {
    /// The subject of all views.
    pub fn new(data: &'a ReportData) -> Self {
        let metric = data.results.shown_metric();
        Self {
            data,
            styles: Styles::of(&data.results),
            measure: metric.map(|metric| Measure::of(&data.results, metric)),
            speeds: Speeds::of(&data.results, data.timings.as_ref()),
        }
    }

    /// The metric that is shown, or why nothing is.
    ///
    /// # Errors
    ///
    /// If models have no scores.
    pub fn measure(&self) -> Result<&Measure, String> {
        let none = || "the models have no scores".to_owned();
        self.measure.as_ref().ok_or_else(none)
    }
}
