//! What a file is, by its first bytes, and what a browser may do with it. Pure.
//!
//! Invariants: the content decides, never the name or what the upload calls itself; what a browser could run is never
//! shown in place, and taken only where the settings name it in full.

use crate::config::MimePattern;

/// Bytes to look at: office files say what they are behind a few entries of their archive.
pub const HEAD_BYTES: usize = 16 * 1024;

/// Types that may do something when opened: no pattern with a star reaches them.
const ACTIVE: &[&str] = &[
    "text/html",
    "text/xml",
    "image/svg+xml",
    "text/javascript",
    "application/wasm",
    "application/java",
    "application/x-executable",
    "application/vnd.microsoft.portable-executable",
    "application/x-mach-binary",
    "application/x-llvm",
    "application/vnd.android.dex",
    "application/vnd.android.dey",
    "application/x-shockwave-flash",
    "application/x-google-chrome-extension",
    "application/vnd.debian.binary-package",
    "application/x-rpm",
];

/// Types that a browser may show in place; everything else it is told to save.
const SHOWN: &[&str] = &[
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "image/heif",
    "image/jxl",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/wav",
    "audio/flac",
    "audio/aac",
    "audio/mp4",
    "video/mp4",
    "video/webm",
    "video/quicktime",
    "video/x-matroska",
    "application/pdf",
];

/// The library's names where there are better known ones.
const RENAMED: &[(&str, &str)] = &[
    ("audio/x-wav", "audio/wav"),
    ("audio/x-flac", "audio/flac"),
    ("audio/x-aiff", "audio/aiff"),
    ("audio/m4a", "audio/mp4"),
    ("video/x-m4v", "video/mp4"),
    // By its container alone it can't be told from Excel's and others.
    ("application/msword", "application/x-ole-storage"),
    // A text for whoever does not run it, and we serve it as one.
    ("text/x-shellscript", "text/plain"),
];

/// Other names, and kinds that only differ behind the bytes that we look at: what an upload may call itself without lying.
const FAMILIES: &[(&str, &[&str])] = &[
    ("image/jpeg", &["image/jpg", "image/pjpeg"]),
    ("image/bmp", &["image/x-bmp", "image/x-ms-bmp"]),
    ("image/vnd.microsoft.icon", &["image/x-icon"]),
    ("image/heif", &["image/heic", "image/heif-sequence", "image/heic-sequence"]),
    ("audio/mpeg", &["audio/mp3", "audio/x-mp3", "audio/mpeg3"]),
    ("audio/wav", &["audio/x-wav", "audio/wave", "audio/vnd.wave"]),
    ("audio/flac", &["audio/x-flac"]),
    ("audio/aiff", &["audio/x-aiff"]),
    ("audio/midi", &["audio/mid", "audio/x-midi"]),
    ("audio/aac", &["audio/x-aac", "audio/aacp"]),
    ("audio/ogg", &["audio/opus", "video/ogg", "application/ogg", "audio/x-vorbis+ogg"]),
    (
        "video/mp4",
        &["audio/mp4", "audio/x-m4a", "audio/m4a", "video/x-m4v", "video/quicktime", "video/3gpp", "audio/3gpp"],
    ),
    ("video/webm", &["audio/webm", "video/x-matroska", "audio/x-matroska"]),
    ("video/x-msvideo", &["video/avi", "video/msvideo"]),
    ("video/x-ms-wmv", &["video/x-ms-asf", "audio/x-ms-wma"]),
    ("text/xml", &["application/xml"]),
    ("application/rtf", &["text/rtf"]),
    ("application/gzip", &["application/x-gzip"]),
    ("application/vnd.rar", &["application/x-rar-compressed", "application/x-rar"]),
    (
        "application/x-ole-storage",
        &[
            "application/msword",
            "application/vnd.ms-excel",
            "application/vnd.ms-powerpoint",
            "application/vnd.ms-outlook",
        ],
    ),
];

/// The type of a file that begins with `head`.
pub fn sniff(head: &[u8]) -> &'static str {
    if is_svg(head) {
        return "image/svg+xml";
    }
    let found = infer::get(head).map(|kind| kind.mime_type());
    match found {
        Some(mime) => RENAMED.iter().find(|(theirs, _)| *theirs == mime).map_or(mime, |(_, ours)| ours),
        None if is_text(head) => "text/plain",
        None => "application/octet-stream",
    }
}

/// By the rule of the WHATWG's MIME Sniffing Standard: no byte that no text has. It holds for every encoding but UTF-16,
/// which begins with its mark.
fn is_text(head: &[u8]) -> bool {
    let binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    head.starts_with(&[0xfe, 0xff]) || head.starts_with(&[0xff, 0xfe]) || !head.iter().any(binary)
}

fn is_svg(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let has = |needle: &[u8]| head.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle));
    let starts = |start: &[u8]| head.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    starts(b"<svg") || (starts(b"<?xml") || starts(b"<!--") || starts(b"<!doctype svg")) && has(b"<svg")
}

/// Whether an upload that calls itself `declared` may be of the type `found`.
///
/// # Errors
/// Both types in words.
pub fn agree(declared: Option<&str>, found: &'static str) -> Result<(), String> {
    let Some(declared) = declared else { return Ok(()) };
    let declared = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(&*declared, "" | "application/octet-stream" | "binary/octet-stream") || declared == found {
        return Ok(());
    }
    let family = |mime: &str| {
        let of = FAMILIES.iter().find(|(name, others)| *name == mime || others.contains(&mime));
        of.map(|(name, _)| *name)
    };
    let same = family(found).is_some() && family(&declared) == family(found);
    if same || zipped(&declared, found) || textual(&declared, found) {
        return Ok(());
    }
    Err(format!("the content is {found}, not {declared}"))
}

/// Files that are zip archives, of which some don't say so in their first entries.
fn zipped(declared: &str, found: &str) -> bool {
    let office = |mime: &str| {
        mime.starts_with("application/vnd.openxmlformats-officedocument.")
            || mime.starts_with("application/vnd.oasis.opendocument.")
            || mime == "application/epub+zip"
    };
    let zip = |mime: &str| matches!(mime, "application/zip" | "application/x-zip-compressed");
    zip(found) && (office(declared) || zip(declared)) || office(found) && zip(declared)
}

/// Texts have no mark that tells one kind from another; whatever they are called, they are served as plain text.
fn textual(declared: &str, found: &str) -> bool {
    const TEXTS: &[&str] = &["json", "javascript", "x-javascript", "x-ndjson", "yaml", "x-yaml", "toml", "sql", "x-sh"];
    let named =
        declared.strip_prefix("application/").is_some_and(|name| TEXTS.contains(&name) || name.ends_with("+json"));
    let text = declared.starts_with("text/") && !matches!(declared, "text/html" | "text/xml" | "text/rtf");
    found == "text/plain" && (named || text)
}

/// Whether the settings take this type.
///
/// # Errors
/// The type, and those that are taken.
pub fn check_allowed(types: &[MimePattern], mime: &str) -> Result<(), String> {
    let only_by_name = ACTIVE.contains(&mime);
    if types.iter().any(|pattern| pattern.matches(mime, only_by_name)) {
        return Ok(());
    }
    let types: Vec<&str> = types.iter().map(MimePattern::as_str).collect();
    Err(format!("files of type {mime} are not taken here; taken are {}", types.join(", ")))
}

/// Whether a browser may show it in place.
pub fn is_shown(mime: &str) -> bool {
    SHOWN.contains(&mime)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    /// A beginning with something behind it, without which the library takes it for nothing.
    fn long(head: &[u8]) -> Vec<u8> {
        [head, &[0; 300]].concat()
    }

    #[test]
    fn the_content_decides() {
        assert_eq!(sniff(&long(b"\x7fELF\x02\x01\x01\0")), "application/x-executable");
        assert_eq!(sniff(&long(b"\x1a\x45\xdf\xa3\x01\x42\x82\x84webm")), "video/webm");
        for (head, mime) in [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
            (b"GIF89a/*<svg*/=1;alert(1)", "image/gif"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
            (b"\0\0\0\x20ftypisom\0\0\0\0", "video/mp4"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"PK\x03\x04\x14\0\0\0", "application/zip"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "application/x-ole-storage"),
            (b"MZ\x90\0", "application/vnd.microsoft.portable-executable"),
            (b"<!DOCTYPE html><p>", "text/html"),
            (b"  \n<html >", "text/html"),
            (b"<svg onload=alert(1)>", "image/svg+xml"),
            (b"\xef\xbb\xbf<?xml version='1.0'?><SVG/>", "image/svg+xml"),
            (b"<?xml version='1.0'?><a/>", "text/xml"),
            (b"#!/bin/sh\nrm", "text/plain"),
            ("日本語のメモ\n".as_bytes(), "text/plain"),
            (b"\x93\xfa\x96{\x8c\xea, in Shift_JIS", "text/plain"),
            (b"\xff\xfea\0", "text/plain"),
            (b"\0\x01\x02\x03", "application/octet-stream"),
        ] {
            assert_eq!(sniff(head), mime, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn an_upload_may_use_another_name_but_not_lie() {
        for (declared, head) in [
            ("image/png", PNG),
            ("IMAGE/PNG; charset=x", PNG),
            ("application/octet-stream", PNG),
            ("audio/x-m4a", b"\0\0\0\x20ftypisom\0\0\0\0"),
            ("text/csv", b"a,b\n"),
            ("application/json", b"{}"),
            ("text/javascript", b"alert(1)"),
            ("application/vnd.ms-excel", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04\x14\0\0\0"),
        ] {
            assert_eq!(agree(Some(declared), sniff(head)), Ok(()), "{declared}");
        }
        assert_eq!(agree(Some("audio/webm;codecs=opus"), "video/webm"), Ok(()));
        assert_eq!(agree(None, "video/webm"), Ok(()));
        for (declared, head, says) in [
            ("image/jpeg", PNG, "the content is image/png, not image/jpeg"),
            ("image/png", b"<script >alert(1)", "the content is text/html, not image/png"),
            ("text/plain", b"<html >", "the content is text/html, not text/plain"),
            ("image/svg+xml", b"<b>", "the content is text/html, not image/svg+xml"),
            ("image/png", b"MZ\x90\0", "the content is application/vnd.microsoft.portable-executable, not image/png"),
            ("text/html", b"just text", "the content is text/plain, not text/html"),
            ("application/pdf", b"{}", "the content is text/plain, not application/pdf"),
        ] {
            assert_eq!(agree(Some(declared), sniff(head)), Err(says.to_owned()));
        }
    }

    #[test]
    fn what_runs_is_taken_only_by_its_name_and_never_shown() {
        let types = Config::default().attachments.types;
        for mime in ["image/png", "text/plain", "application/pdf", "video/mp4"] {
            assert_eq!(check_allowed(&types, mime), Ok(()), "{mime}");
        }
        for mime in ["image/svg+xml", "text/html", "application/x-executable", "application/octet-stream"] {
            assert!(check_allowed(&types, mime).is_err(), "{mime}");
        }
        let named = ["image/svg+xml".parse().expect("a type")];
        assert_eq!(check_allowed(&named, "image/svg+xml"), Ok(()));
        assert!(ACTIVE.iter().chain(&["text/plain", "application/zip"]).all(|mime| !is_shown(mime)));
        assert!(SHOWN.iter().all(|mime| !ACTIVE.contains(mime)));
    }

    proptest! {
        /// The library reads what strangers send: whatever follows a known beginning, it must not panic.
        #[test]
        fn no_content_is_too_strange(start in 0..8_usize, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let starts: [&[u8]; 8] = [
                b"", b"PK\x03\x04", b"PK\x03\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff[Content_Types].xml", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
                b"\0\0\0\x20ftyp", b"RIFF", b"<", b"BM",
            ];
            let mut head = starts[start].to_vec();
            head.extend(rest);
            let mime = sniff(&head);
            prop_assert!(mime.contains('/'));
            for cut in 0..head.len().min(64) {
                sniff(&head[..cut]);
            }
        }
    }
}
