//! The panels of the page, one file each, and the list of them: a new one is a file and its two lines here.

mod batches;
mod budgets;
mod dead;
mod dead_kinds;
mod deliveries;
mod endpoints;
mod failures;
mod keys;
mod last_day;
mod messages;
mod operations;
mod replays;
mod safe;
mod submissions;
mod subscribers;
mod waits;
mod work;

use super::panel::Panel;

/// A part of the page with an address of its own.
pub(super) struct Tab {
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    pub(super) panels: &'static [&'static Panel],
}

/// The parts of the page, in the order of its menu. Events have a search instead of panels.
pub(super) static TABS: &[Tab] = &[
    Tab {
        path: "/",
        title: "Overview",
        panels: &[
            &safe::PANEL,
            &work::PANEL,
            &last_day::PANEL,
            &waits::PANEL,
            &failures::PANEL,
            &subscribers::PANEL,
            &keys::PANEL,
            &operations::PANEL,
        ],
    },
    Tab { path: "/events", title: "Events", panels: &[] },
    Tab {
        path: "/batches",
        title: "Batches",
        panels: &[&submissions::PANEL, &batches::PANEL, &budgets::PANEL],
    },
    Tab { path: "/messages", title: "Messages", panels: &[&messages::PANEL] },
    Tab { path: "/notifications", title: "Notifications", panels: &[&endpoints::PANEL, &deliveries::PANEL] },
    Tab {
        path: "/dead",
        title: "Dead letters",
        panels: &[&dead_kinds::PANEL, &dead::PANEL, &replays::PANEL],
    },
];
