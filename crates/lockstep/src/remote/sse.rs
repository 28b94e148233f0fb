//! Server-sent events, read from the bytes of a response as they come.

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its id; empty where it has none.
    pub id: String,
    /// Its name; empty where it has none.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// The most bytes of one event; a stream that goes beyond is no stream of ours.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Puts events together.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    current: ServerEvent,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes and gives the events that are whole now; `None` where an event is too large.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<ServerEvent>> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.buffer[start..].iter().position(|b| *b == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[start..start + length]).into_owned();
            start += length + 1;
            events.extend(self.line(line.strip_suffix('\r').unwrap_or(&line)));
        }
        self.buffer.drain(..start);
        (self.buffer.len() + self.current.data.len() <= EVENT_BYTES_MAX).then_some(events)
    }

    fn line(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.current);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        // A line that begins with a colon is a comment: the heartbeat.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.current.id = value.to_owned(),
            "event" => self.current.event = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
                self.has_data = true;
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_wherever_the_bytes_are_cut() {
        let text = ": heartbeat\n\nid: 7\nevent: order.placed\ndata: {\"a\":1}\n\nid: 8\r\ndata: x\r\ndata: y\r\n\r\n";
        let event =
            |id: &str, event: &str, data: &str| ServerEvent { id: id.into(), event: event.into(), data: data.into() };
        let wanted = vec![event("7", "order.placed", "{\"a\":1}"), event("8", "", "x\ny")];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|part| parser.push(part).unwrap()).collect();
            assert_eq!(found, wanted, "in parts of {size} bytes");
        }
    }

    #[test]
    fn an_endless_line_ends_the_reading() {
        let mut parser = Parser::default();
        let part = vec![b'x'; 1024 * 1024];
        assert!((0..17).any(|_| parser.push(&part).is_none()));
    }
}
