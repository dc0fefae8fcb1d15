//! How users and messages are named, so that a name leads back to what it names.

/// What we say that we are, for the server's log.
pub const CLIENT: &str = concat!("roundtable-loadtest/", env!("CARGO_PKG_VERSION"));

/// The user that plays person `person` (counted over all workers).
pub fn user(person: u32) -> String {
    format!("lt-{person}")
}

/// The id of a worker's `message`. The load writes it itself, without an allocation.
#[cfg(test)]
pub fn message(nonce: &str, worker: u32, message: u32) -> String {
    format!("{nonce}-{worker}-{message}")
}

/// Worker and message of an id, `NONCE-WORKER-MESSAGE`.
pub fn message_of(nonce: &str, id: &[u8]) -> Option<(u32, u32)> {
    let rest = std::str::from_utf8(id).ok()?.strip_prefix(nonce)?.strip_prefix('-')?;
    let (worker, message) = rest.split_once('-')?;
    let canonical = |text: &str| text.parse::<u32>().ok().filter(|n| n.to_string() == text);
    Some((canonical(worker)?, canonical(message)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_and_a_foreign_one_nowhere() {
        assert_eq!(message_of("n1", message("n1", 3, 400).as_bytes()), Some((3, 400)));
        for id in ["n1-3", "n1-03-4", "n2-3-4", "n1-3-4-5", "n1-3--4", "n1-3-x", ""] {
            assert_eq!(message_of("n1", id.as_bytes()), None, "{id}");
        }
    }
}
