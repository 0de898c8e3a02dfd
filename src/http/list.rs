//! Pages of `tags/list` and `_catalog`, and the `Link` to the next one (distribution-spec, "Listing Tags"; RFC 8288).

use super::route::Page;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All that is not unreserved in RFC 3986, section 2.3.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The entries of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// The entries, as many as were asked for or as there are.
    pub entries: Vec<&'a str>,
    /// Whether there are more.
    pub more: bool,
}

/// The part that `page` asks for of those of the sorted `all` that are to be shown. Only as many are looked at as that
/// takes.
pub fn list<'a, T>(
    all: &'a [T],
    text: impl Fn(&T) -> &str,
    is_shown: impl Fn(&T) -> bool,
    page: &Page,
) -> Listing<'a> {
    let begin = page.last.as_deref().map_or(0, |last| all.partition_point(|entry| text(entry) <= last));
    let mut rest = all[begin..].iter().filter(|entry| is_shown(entry)).map(text);
    // A page of none has no last entry that a link could name, so it is the end, as the specification has it.
    let entries: Vec<_> = rest.by_ref().take(page.size).collect();
    Listing { more: !entries.is_empty() && rest.next().is_some(), entries }
}

impl Listing<'_> {
    /// The value of the `Link` header, relative to the host, if there are more entries. `path` consists of characters
    /// that need no encoding.
    pub fn link(&self, path: &str, page: &Page) -> Option<String> {
        let last = self.entries.last().filter(|_| self.more)?;
        let last = utf8_percent_encode(last, QUERY_VALUE);
        Some(format!("<{path}?n={}&last={last}>; rel=\"next\"", page.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn list<'a>(all: &'a [&'a str], page: &Page) -> Listing<'a> {
        super::list(all, |entry| entry, |_| true, page)
    }

    fn page(size: usize, last: Option<&str>) -> Page {
        Page { size, last: last.map(Into::into) }
    }

    #[test]
    fn pages_follow_each_other_by_link() {
        let all = ["a", "b/c", "d"];
        let first = list(&all, &page(2, None));
        assert_eq!(first, Listing { entries: vec!["a", "b/c"], more: true });
        assert_eq!(
            first.link("/v2/_catalog", &page(2, None)).as_deref(),
            Some("</v2/_catalog?n=2&last=b%2Fc>; rel=\"next\"")
        );
        let second = list(&all, &page(2, Some("b/c")));
        assert_eq!(second, Listing { entries: vec!["d"], more: false });
        assert_eq!(second.link("/v2/_catalog", &page(2, None)), None);
    }

    #[test]
    fn last_need_not_exist_and_a_page_of_none_has_no_link() {
        assert_eq!(list(&["a", "c"], &page(9, Some("b"))).entries, ["c"]);
        assert!(list(&["a", "c"], &page(9, Some("c"))).entries.is_empty());
        let none = list(&["a", "c"], &page(0, None));
        assert_eq!(none, Listing { entries: vec![], more: false });
        assert_eq!(none.link("/x", &page(0, None)), None);
    }

    #[test]
    fn no_more_entries_are_looked_at_than_the_page_takes() {
        let all = ["a", "b", "c", "d", "e", "f"];
        let looked = Cell::new(0);
        let is_shown = |entry: &&str| {
            looked.set(looked.get() + 1);
            *entry != "c"
        };
        let listing = super::list(&all, |entry| entry, is_shown, &page(1, Some("b")));
        assert_eq!(listing, Listing { entries: vec!["d"], more: true });
        assert_eq!(looked.get(), 3, "c, d, and e that shows that there are more");
    }

    proptest! {
        #[test]
        fn following_the_links_gives_every_entry_once(
            all in proptest::collection::btree_set("[a-zA-Z0-9._/-]{1,4}", 0..20),
            size in 1..8usize,
        ) {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let mut seen: Vec<String> = Vec::new();
            loop {
                let page = page(size, seen.last().map(String::as_str));
                let listing = list(&all, &page);
                seen.extend(listing.entries.iter().map(|e| (*e).to_owned()));
                if listing.link("/", &page).is_none() {
                    break;
                }
            }
            prop_assert_eq!(seen, all);
        }
    }
}
