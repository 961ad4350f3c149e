//! CSV for people who open it in a spreadsheet.

use std::io;

/// Writes rows; texts that a spreadsheet would take for a formula get an apostrophe in front.
/// (OWASP, "CSV Injection".)
pub(crate) fn write<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [Cell; N]>,
) -> Result<Vec<u8>, io::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(head)?;
    for row in rows {
        writer.write_record(row.map(Cell::written))?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

/// One value.
pub(crate) enum Cell {
    /// Someone's words.
    Text(String),
    /// A number of ours, which may begin with a minus sign.
    Number(String),
}

impl Cell {
    fn written(self) -> String {
        match self {
            Self::Text(text)
                if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) =>
            {
                format!("'{text}")
            }
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula() {
        let rows = ["=1+1", "@SUM(A1)", "-2", "plain, with \"quotes\"", "\t=x"]
            .map(|text| [Cell::Text(text.into()), Cell::Number("-2".into())]);
        let text = String::from_utf8(write(["a", "b"], rows).unwrap()).unwrap();
        assert_eq!(
            text,
            "a,b\r\n'=1+1,-2\r\n'@SUM(A1),-2\r\n'-2,-2\r\n\"plain, with \"\"quotes\"\"\",-2\r\n'\t=x,-2\r\n"
        );
    }
}
