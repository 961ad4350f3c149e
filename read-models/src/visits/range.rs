//! Days of a site's time zone, and the instants between which they lie.

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::query::{Bucket, DateRange};

/// A date range as it stands for one site at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
    /// The local day of the first instant.
    pub first: NaiveDate,
    /// The local day of the last instant.
    pub last: NaiveDate,
    /// Of the site.
    pub timezone: Tz,
    /// Both ends as the answer names them, the last one included.
    pub named: [String; 2],
}

/// More labels than this are not answered: 20,000 hours are more than two years.
pub const MOST_LABELS: usize = 20_000;

impl Resolved {
    /// What a range means at this time; `first_visit` is asked for by [`DateRange::All`] only.
    pub fn new(
        range: &DateRange,
        timezone: Tz,
        now: DateTime<Utc>,
        first_visit: Option<DateTime<Utc>>,
    ) -> Self {
        let today = now.with_timezone(&timezone).date_naive();
        let month = today.with_day(1).unwrap_or(today);
        let end_of_month = (month + Months::new(1)).pred_opt().unwrap_or(month);
        match *range {
            DateRange::Day => Self::days(today, today, timezone),
            DateRange::Days(count) => {
                let first = today
                    .checked_sub_days(Days::new(u64::from(count.saturating_sub(1))))
                    .unwrap_or(today);
                Self::days(first, today, timezone)
            }
            DateRange::Month => Self::days(month, end_of_month, timezone),
            DateRange::Months(count) => {
                let first = month
                    .checked_sub_months(Months::new(count.saturating_sub(1)))
                    .unwrap_or(month);
                Self::days(first, end_of_month, timezone)
            }
            DateRange::Year => {
                let day = |month, day| NaiveDate::from_ymd_opt(today.year(), month, day).unwrap_or(today);
                Self::days(day(1, 1), day(12, 31), timezone)
            }
            DateRange::All => {
                let first = first_visit.map_or(today, |visit| visit.with_timezone(&timezone).date_naive());
                Self::days(first.min(today), today, timezone)
            }
            DateRange::Dates(first, last) => Self::days(first, last, timezone),
            DateRange::Instants(from, last) => {
                let local = |instant: DateTime<Utc>| instant.with_timezone(&timezone);
                Self {
                    from,
                    to: last + Duration::seconds(1),
                    first: local(from).date_naive(),
                    last: local(last).date_naive(),
                    timezone,
                    named: [from, last].map(|instant| local(instant).to_rfc3339()),
                }
            }
        }
    }

    /// Whole days, both included.
    pub fn days(first: NaiveDate, last: NaiveDate, timezone: Tz) -> Self {
        Self {
            from: midnight(first, timezone),
            to: midnight(last.succ_opt().unwrap_or(last), timezone),
            first,
            last,
            timezone,
            named: [first, last].map(|day| day.to_string()),
        }
    }

    /// As many days, just before these.
    #[must_use]
    pub fn before(&self) -> Self {
        let count = Days::new(self.day_count());
        let shifted = |day: NaiveDate| day.checked_sub_days(count).unwrap_or(day);
        Self::days(shifted(self.first), shifted(self.last), self.timezone)
    }

    /// How many local days it touches.
    pub fn day_count(&self) -> u64 {
        u64::try_from((self.last - self.first).num_days()).unwrap_or(0) + 1
    }

    /// What an automatic bucket is here.
    pub fn bucket(&self, asked: Bucket) -> Bucket {
        match (asked, self.day_count()) {
            (Bucket::Automatic, 0..=1) => Bucket::Hour,
            (Bucket::Automatic, 2..=92) => Bucket::Day,
            (Bucket::Automatic, _) => Bucket::Month,
            (Bucket::Hour | Bucket::Day | Bucket::Week | Bucket::Month, _) => asked,
        }
    }

    /// Every label of this bucket in the range, also those of which nothing is known; `None` when there
    /// are more than [`MOST_LABELS`].
    pub fn labels(&self, bucket: Bucket) -> Option<Vec<String>> {
        let mut labels: Vec<String> = match self.bucket(bucket) {
            Bucket::Automatic | Bucket::Hour => {
                let label = |instant: DateTime<Utc>| {
                    let local = instant.with_timezone(&self.timezone).naive_local();
                    local
                        .with_minute(0)
                        .unwrap_or(local)
                        .format("%Y-%m-%d %H:00:00")
                        .to_string()
                };
                // Half hours, because some zones are off by them; a repeated hour has one label.
                let instants = std::iter::successors(Some(self.from), |at| Some(*at + Duration::minutes(30)));
                let last = self.to - Duration::microseconds(1);
                instants
                    .take_while(|at| *at < last)
                    .take(2 * MOST_LABELS + 2)
                    // The last step may have ended before the last hour began.
                    .chain([last])
                    .map(label)
                    .collect()
            }
            Bucket::Day => self.each_day().map(|day| day.to_string()).collect(),
            Bucket::Week => self
                .each_day()
                .map(|day| day - Days::new(u64::from(day.weekday().num_days_from_monday())))
                .map(|monday| monday.to_string())
                .collect(),
            Bucket::Month => self
                .each_day()
                .map(|day| day.with_day(1).unwrap_or(day))
                .map(|first| first.to_string())
                .collect(),
        };
        labels.dedup();
        (labels.len() <= MOST_LABELS).then_some(labels)
    }

    fn each_day(&self) -> impl Iterator<Item = NaiveDate> {
        self.first.iter_days().take_while(|day| *day <= self.last)
    }
}

/// The first instant of a local day; where midnight is skipped, the first one after it.
fn midnight(day: NaiveDate, timezone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(chrono::NaiveTime::MIN);
    let local = |time: NaiveDateTime| timezone.from_local_datetime(&time).earliest();
    // A whole day may be skipped.
    (0..=100)
        .find_map(|quarter| local(midnight + Duration::minutes(15 * quarter)))
        .map_or_else(|| midnight.and_utc(), |instant| instant.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_a_day_of_the_sites_time_zone() {
        let day = Resolved::new(
            &DateRange::Day,
            Tz::Europe__Berlin,
            at("2026-07-01T22:30:00Z"),
            None,
        );
        assert_eq!(day.named, ["2026-07-02", "2026-07-02"]);
        assert_eq!(
            (day.from, day.to),
            (at("2026-07-01T22:00:00Z"), at("2026-07-02T22:00:00Z"))
        );
    }

    #[test]
    fn a_day_on_which_clocks_change_has_its_own_length() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 29).unwrap();
        let day = Resolved::days(day, day, Tz::Europe__Berlin);
        assert_eq!(day.to - day.from, Duration::hours(23));
        assert_eq!(day.labels(Bucket::Hour).unwrap().len(), 23);
    }

    #[test]
    fn the_last_hour_of_a_range_has_a_label_however_short_it_is() {
        let range = DateRange::Instants(at("2026-11-21T10:45:00Z"), at("2026-11-21T12:10:00Z"));
        let range = Resolved::new(&range, Tz::UTC, at("2026-11-22T00:00:00Z"), None);
        let hours = [10, 11, 12].map(|hour| format!("2026-11-21 {hour}:00:00"));
        assert_eq!(range.labels(Bucket::Hour).unwrap(), hours);
    }

    #[test]
    fn a_midnight_that_was_skipped_begins_the_day_after_it() {
        let day = NaiveDate::from_ymd_opt(2018, 11, 4).unwrap();
        assert_eq!(midnight(day, Tz::America__Sao_Paulo), at("2018-11-04T03:00:00Z"));
    }

    #[test]
    fn ranges_of_days_and_months_end_today_or_with_the_month() {
        let resolve = |range| Resolved::new(&range, Tz::UTC, at("2026-11-21T12:00:00Z"), None).named;
        assert_eq!(resolve(DateRange::Days(7)), ["2026-11-15", "2026-11-21"]);
        assert_eq!(resolve(DateRange::Month), ["2026-11-01", "2026-11-30"]);
        assert_eq!(resolve(DateRange::Months(6)), ["2026-06-01", "2026-11-30"]);
        assert_eq!(resolve(DateRange::Year), ["2026-01-01", "2026-12-31"]);
        assert_eq!(resolve(DateRange::All), ["2026-11-21", "2026-11-21"]);
    }

    #[test]
    fn all_begins_with_the_first_visit() {
        let first = Some(at("2015-05-17T10:05:00Z"));
        let all = Resolved::new(&DateRange::All, Tz::UTC, at("2026-11-21T12:00:00Z"), first);
        assert_eq!(all.named, ["2015-05-17", "2026-11-21"]);
        assert_eq!(all.bucket(Bucket::Automatic), Bucket::Month);
        assert_eq!(
            all.labels(Bucket::Automatic).unwrap().first().unwrap(),
            "2015-05-01"
        );
        assert_eq!(all.labels(Bucket::Hour), None);
    }

    #[test]
    fn the_period_before_has_as_many_days() {
        let day = |text: &str| text.parse().unwrap();
        let week = Resolved::days(day("2026-11-15"), day("2026-11-21"), Tz::UTC);
        assert_eq!(week.before().named, ["2026-11-08", "2026-11-14"]);
    }
}
