//! Times as our own writer forms them.

use events::Timestamp;

/// A time in the log's one form, without a calendar's detours: microseconds since 1970.
pub(super) fn micros(text: &str) -> Option<i64> {
    plain(text.as_bytes()).or_else(|| Some(text.parse::<Timestamp>().ok()?.micros()))
}

/// `2026-11-21T16:03:00.000000Z`, of years from 1970 on; anything else is left to the calendar.
fn plain(text: &[u8]) -> Option<i64> {
    let text: &[u8; 27] = text.try_into().ok()?;
    let marks = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'.'),
        (26, b'Z'),
    ];
    if marks.iter().any(|(place, mark)| text[*place] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_i64, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fits = year >= 1970 && (1..=12).contains(&month) && (1..=28).contains(&day);
    let in_day = hour < 24 && minute < 60 && second < 60;
    // The 29th to 31st need a calendar only where the month may not have them.
    let long = matches!(
        (month, day),
        (1 | 3 | 5 | 7 | 8 | 10 | 12, 29..=31) | (4 | 6 | 9 | 11, 29..=30)
    );
    if !(in_day && (fits || (year >= 1970 && long))) {
        return None;
    }
    // Days from civil, <https://howardhinnant.github.io/date_algorithms.html>.
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + number(20, 26)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_the_calendars_time(micros in 0_i64..4_102_444_800_000_000) {
            let time = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(plain(time.to_string().as_bytes()).unwrap_or(micros), micros);
        }
    }

    #[test]
    fn days_that_do_not_exist_are_left_to_the_calendar() {
        for text in [
            "2026-02-30T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-04-31T00:00:00.000000Z",
        ] {
            assert_eq!(plain(text.as_bytes()), None, "{text}");
        }
    }
}
