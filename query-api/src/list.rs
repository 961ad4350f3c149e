//! The form of every list: a page of items, how many there are, and where to go on.

use serde::{Deserialize, Serialize};
use service::{FieldError, Problem};
use utoipa::ToSchema;

/// At most this many items on a page.
pub(crate) const MAX_SIZE: u32 = 100;
const DEFAULT_SIZE: u32 = 20;
/// Said of a cursor that cannot be read.
pub(crate) const NO_CURSOR: &str = "is not a cursor; pass on next as it was given";

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// How many there are on all pages; left out with `total=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Which page this is, from 1; left out after a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// At most this many items are on a page.
    pub size: u32,
    /// How many pages there are; left out with `total=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_pages: Option<u64>,
    /// A cursor: `after=` it gives what follows this page. None on the last.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A page of at most `size`.
    pub(crate) fn new(
        items: Vec<T>,
        total: Option<u64>,
        page: Option<u32>,
        size: u32,
        next: Option<String>,
    ) -> Self {
        let total_pages = total.map(|total| total.div_ceil(u64::from(size.max(1))));
        Self {
            items,
            total,
            page,
            size,
            total_pages,
            next,
        }
    }

    /// A page of a list whose cursors are pages' numbers, as [`Paging::of_numbers`] reads them.
    pub(crate) fn numbered(items: Vec<T>, total: Option<u64>, paging: Paging) -> Self {
        let seen = (paging.skipped() + items.len()) as u64;
        let more = total.map_or(items.len() == paging.size as usize, |total| {
            seen < total && !items.is_empty()
        });
        let next = more.then(|| format!("p{}", paging.page));
        Self::new(items, total, Some(paging.page), paging.size, next)
    }

    /// Everything on one page.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        let count = items.len();
        let size = u32::try_from(count).unwrap_or(u32::MAX);
        let total_pages = Some(u64::from(count > 0));
        Self {
            items,
            total: Some(count as u64),
            page: Some(1),
            size,
            total_pages,
            next: None,
        }
    }
}

/// Page and size as asked for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Paging {
    /// From 1.
    pub page: u32,
    /// 1 to 100.
    pub size: u32,
}

impl Paging {
    /// Checks what was asked for; what is wrong goes to `faults`.
    pub(crate) fn checked(page: Option<u32>, size: Option<u32>, faults: &mut Vec<FieldError>) -> Self {
        let (page, size) = (page.unwrap_or(1), size.unwrap_or(DEFAULT_SIZE));
        if page == 0 {
            faults.push(FieldError::new("/page", "is counted from 1"));
        }
        if !(1..=MAX_SIZE).contains(&size) {
            faults.push(FieldError::new("/size", format!("is 1 to {MAX_SIZE}")));
        }
        Self { page, size }
    }

    /// The same where a cursor is a page's number: in a list that changes its order no row keeps a place.
    pub(crate) fn of_numbers(
        page: Option<u32>,
        size: Option<u32>,
        after: Option<&str>,
        faults: &mut Vec<FieldError>,
    ) -> Self {
        let number = match after {
            Some(_) if page.is_some() => {
                faults.push(FieldError::new("/page", "does not go with after"));
                page
            }
            Some(text) => {
                let number = text
                    .strip_prefix('p')
                    .and_then(|number| number.parse::<u32>().ok());
                if number.is_none() {
                    faults.push(FieldError::new("/after", NO_CURSOR));
                }
                number.map(|number| number.saturating_add(1))
            }
            None => page,
        };
        Self::checked(number, size, faults)
    }

    /// Rows that stand before this page.
    pub(crate) fn skipped(self) -> usize {
        (self.page.saturating_sub(1) as usize).saturating_mul(self.size as usize)
    }
}

/// 422 when anything is wrong.
pub(crate) fn checked(faults: Vec<FieldError>) -> Result<(), Problem> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Problem::invalid(faults))
    }
}

/// A text of at most `longest` characters.
pub(crate) fn at_most(name: &str, text: Option<&str>, longest: usize, faults: &mut Vec<FieldError>) {
    if text.is_some_and(|text| text.chars().count() > longest) {
        faults.push(FieldError::new(
            format!("/{name}"),
            format!("has at most {longest} characters"),
        ));
    }
}

/// One of these words.
pub(crate) fn one_of(name: &str, text: Option<&str>, words: &[&str], faults: &mut Vec<FieldError>) {
    if text.is_some_and(|text| !words.contains(&text)) {
        faults.push(FieldError::new(
            format!("/{name}"),
            format!("is one of {}", words.join(", ")),
        ));
    }
}
