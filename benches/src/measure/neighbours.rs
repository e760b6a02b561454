//! One busy key: what its long queue costs the events of other keys.

use super::pick_up;
use crate::Bench;
use crate::cluster::{Cluster, Purpose};
use crate::figures::Table;

/// Measures pick-up without and with a key that has a long queue, which the worker handles meanwhile.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(pick_up::restante(bench, &cluster, "alone", 0).await?);
        figures.push(pick_up::restante(bench, &cluster, "beside a busy key", bench.scale.one_key).await?);
    }
    Ok(Table {
        title: "One busy key",
        about: format!(
            "Pick-up of events with keys of their own, as in the table above, alone and beside one key with {} events that \
             wait, which the same worker works off one after the other meanwhile.",
            bench.scale.one_key
        ),
        compared: None,
        figures,
    })
}
