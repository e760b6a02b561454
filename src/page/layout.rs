//! The frame of every part of the page: menu, time, and what all have in common.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::gate::Person;
use super::panels::TABS;
use super::words;

/// What a part of the page is made of.
pub(super) struct Sheet<'a> {
    pub(super) title: &'a str,
    /// The path of the entry of the menu that it belongs to.
    pub(super) tab: &'a str,
    pub(super) person: &'a Person,
    /// How old the oldest answer on it is.
    pub(super) as_of: Option<DateTime<Utc>>,
    /// Whether it is renewed by itself.
    pub(super) is_live: bool,
    /// Whether something on it is still being asked for: then it is renewed soon.
    pub(super) is_awaited: bool,
    /// Whether something is typed on it that would be lost if it was loaded again.
    pub(super) is_typed_on: bool,
    pub(super) body: Markup,
}

/// How soon a browser without JavaScript asks again.
const SECONDS_WITHOUT_SCRIPT: u32 = 15;
const SECONDS_WHILE_AWAITED: u32 = 1;

impl Sheet<'_> {
    pub(super) fn draw(&self) -> String {
        let sheet = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Restante" }
                    link rel="icon" href={ "/assets/icon.svg?" (assets::version()) };
                    link rel="stylesheet" href={ "/assets/page.css?" (assets::version()) };
                    script src={ "/assets/page.js?" (assets::version()) } defer {}
                    @if let Some(seconds) = self.seconds_without_script() {
                        noscript { meta http-equiv="refresh" content=(seconds); }
                    }
                }
                body data-live-page[self.is_live] {
                    a.skip href="#content" { "Skip to the content" }
                    header {
                        a.brand href="/" { "Restante" }
                        nav aria-label="Parts" {
                            @for tab in TABS {
                                a href=(tab.path) aria-current=[(tab.path == self.tab).then_some("page")] { (tab.title) }
                            }
                        }
                        div.now {
                            (self.time())
                            @if self.is_typed_on && (self.is_live || self.is_awaited) {
                                noscript { a href="" { "Load again" } }
                            }
                            @if self.is_live { button type="button" id="live" aria-pressed="true" hidden { "Live" } }
                            @if let Person(Some(name)) = self.person { span.person { (name) } }
                        }
                    }
                    main id="content" tabindex="-1" {
                        h1 class=[TABS.iter().any(|tab| tab.title == self.title).then_some("unseen")] { (self.title) }
                        (self.body)
                    }
                    footer {
                        p { "restante-worker " (env!("CARGO_PKG_VERSION")) ". Times are UTC. Read with the rights of restante_page, which cannot write." }
                        p.keys { kbd { "/" } " search  " kbd { "p" } " pause" }
                    }
                }
            }
        };
        sheet.into_string()
    }

    /// The script renews only what it finds to be live. A browser without it loads the whole page, and what is typed on it is lost.
    fn seconds_without_script(&self) -> Option<u32> {
        match (self.is_typed_on, self.is_awaited, self.is_live) {
            (true, _, _) => None,
            (false, true, _) => Some(SECONDS_WHILE_AWAITED),
            (false, false, is_live) => is_live.then_some(SECONDS_WITHOUT_SCRIPT),
        }
    }

    fn time(&self) -> Markup {
        html! {
            span id="as-of" data-live {
                @if let Some(at) = self.as_of {
                    "as of " time datetime=(at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)) title=(words::exactly(at)) { (at.format("%H:%M:%S")) }
                } @else if self.is_live { "nothing is known yet" }
            }
        }
    }
}
