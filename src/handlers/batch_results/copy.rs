//! Rows of results in Postgres's binary `COPY` format.
//!
//! As the manual's page on `COPY` describes it ("Binary Format"): a header, then for each row the number of its fields
//! and each field with its length, then a trailer. Binary, so that nothing has to be escaped, or parsed twice.

use super::line::Row;

/// The columns of the `COPY` statement, in the order in which [`CopyBuffer::push`] writes them.
pub(super) const COPY_COLUMNS: &str = "account, batch_id, custom_id, outcome, line, raw, \"text\", model, stop_reason, error_type, \
     error_message, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens";

const FIELDS: i16 = 15;

/// The signature, no flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The end of the rows: it stands where a row has its number of fields.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// The rows of one `COPY`.
#[derive(Debug)]
pub(super) struct CopyBuffer {
    bytes: Vec<u8>,
    rows: usize,
    line_bytes: usize,
    is_finished: bool,
}

impl CopyBuffer {
    /// No rows yet.
    pub(super) fn new() -> CopyBuffer {
        CopyBuffer { bytes: HEADER.to_vec(), rows: 0, line_bytes: 0, is_finished: false }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If a field has 2 GiB or more. The cap on the length of lines keeps fields far below that.
    pub(super) fn push(&mut self, account: &str, batch_id: &str, row: &Row<'_>) {
        if std::mem::take(&mut self.is_finished) {
            self.bytes.truncate(self.bytes.len() - TRAILER.len());
        }
        self.bytes.extend_from_slice(&FIELDS.to_be_bytes());
        self.field(Some(account.as_bytes()));
        self.field(Some(batch_id.as_bytes()));
        self.field(Some(row.custom_id.as_bytes()));
        self.field(Some(row.outcome.as_bytes()));
        self.field(row.line.map(str::as_bytes));
        self.field(row.raw);
        for text in [&row.text, &row.model, &row.stop_reason, &row.error_type, &row.error_message] {
            self.field(text.as_deref().map(str::as_bytes));
        }
        let usage = &row.usage;
        for tokens in [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_creation_input_tokens,
            usage.cache_read_input_tokens,
        ] {
            self.field(tokens.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        }
        self.rows += 1;
        self.line_bytes += row.line.map_or(0, str::len) + row.raw.map_or(0, <[u8]>::len);
    }

    /// How many rows it holds.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of all its lines, without their endings.
    pub(super) fn line_bytes(&self) -> usize {
        self.line_bytes
    }

    /// The bytes of the buffer, including the header.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All bytes to send, with the trailer.
    pub(super) fn finish(&mut self) -> &[u8] {
        if !self.is_finished {
            self.bytes.extend_from_slice(&TRAILER);
            self.is_finished = true;
        }
        &self.bytes
    }

    /// Drops the rows, and keeps the memory for the next part.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(HEADER.len());
        self.rows = 0;
        self.line_bytes = 0;
        self.is_finished = false;
    }

    /// A length of -1 is null.
    fn field(&mut self, value: Option<&[u8]>) {
        let length =
            value.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("a line is capped far below 2 GiB"));
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }
}

impl Default for CopyBuffer {
    fn default() -> CopyBuffer {
        CopyBuffer::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Usage;

    const EMPTY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff";

    fn full() -> Row<'static> {
        Row {
            custom_id: "é".into(),
            outcome: "ok".into(),
            line: Some("{}"),
            raw: None,
            text: Some("".into()),
            model: Some("m".into()),
            stop_reason: Some("s".into()),
            error_type: None,
            error_message: Some("e".into()),
            usage: Usage {
                input_tokens: Some(258),
                output_tokens: Some(-2),
                cache_creation_input_tokens: None,
                cache_read_input_tokens: Some(0),
            },
        }
    }

    #[test]
    fn no_rows_are_a_header_and_a_trailer() {
        assert_eq!(CopyBuffer::new().finish(), EMPTY);
    }

    #[test]
    fn a_row_is_its_fields_with_their_lengths_in_network_order() {
        let mut buffer = CopyBuffer::new();
        buffer.push("a", "b", &full());

        let expected = [
            &b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..],
            b"\x00\x0f",
            b"\x00\x00\x00\x01a",
            b"\x00\x00\x00\x01b",
            b"\x00\x00\x00\x02\xc3\xa9",
            b"\x00\x00\x00\x02ok",
            b"\x00\x00\x00\x02{}",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x00",
            b"\x00\x00\x00\x01m",
            b"\x00\x00\x00\x01s",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x01e",
            b"\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02",
            b"\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xfe",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\xff\xff",
        ]
        .concat();
        assert_eq!(buffer.finish(), expected);
        assert_eq!((buffer.rows(), buffer.line_bytes(), buffer.len_bytes()), (1, 2, expected.len()));
    }

    #[test]
    fn bytes_that_are_no_text_go_into_their_own_column() {
        let mut buffer = CopyBuffer::new();
        buffer.push("a", "b", &Row { raw: Some(b"\xff"), ..Row::default() });

        assert_eq!(buffer.line_bytes(), 1);
        let after_outcome = HEADER.len() + 2 + 5 + 5 + 4 + 4;
        assert_eq!(buffer.finish()[after_outcome..][..9], *b"\xff\xff\xff\xff\x00\x00\x00\x01\xff");
    }

    #[test]
    fn a_row_after_the_trailer_takes_its_place() {
        let (mut early, mut late) = (CopyBuffer::new(), CopyBuffer::new());
        early.push("a", "b", &full());
        early.finish();
        early.push("a", "c", &full());
        late.push("a", "b", &full());
        late.push("a", "c", &full());

        assert_eq!(early.finish(), late.finish());
    }

    #[test]
    fn clearing_keeps_the_memory_and_nothing_else() {
        let mut buffer = CopyBuffer::new();
        buffer.push("a", "b", &full());
        buffer.finish();
        let capacity = buffer.bytes.capacity();

        buffer.clear();

        assert_eq!((buffer.rows(), buffer.line_bytes(), buffer.bytes.capacity()), (0, 0, capacity));
        assert_eq!(buffer.finish(), EMPTY);
    }

    #[test]
    fn every_column_has_its_field() {
        assert_eq!(COPY_COLUMNS.split(", ").count(), usize::try_from(FIELDS).unwrap());
    }
}
