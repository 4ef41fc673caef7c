//! After a start: pools are found again with their containers.

use super::keeper;
use super::manager::Pools;
use super::room::Pool;
use crate::container::{Fitness, Wish};
use crate::domain::container::{Container, ContainerState};
use crate::error::Result;
use crate::store::pools as table;
use std::sync::Arc;

/// Takes in what is recorded.
pub(super) async fn all(pools: &Arc<Pools>) -> Result<()> {
    // First, for it counts leases in the records of the pools.
    note_loans(pools).await;
    let records = pools.store.read(table::all).await?;
    let mut found = Vec::new();
    for record in records {
        let read = record.and_then(|(record, totals)| {
            let wish: std::result::Result<Wish, _> = postcard::from_bytes(&record.specification);
            wish.map(|wish| (wish, totals, record.clone())).map_err(|_| record.origin.name)
        });
        match read {
            Ok((wish, totals, record)) => found.push(pools.pool(record, wish, totals)),
            Err(name) => {
                tracing::error!(pool = name, "the record of a pool is damaged; its containers are destroyed");
            }
        }
    }
    for pool in &found {
        pools.pools.write().insert(pool.origin.name.clone(), pool.clone());
    }
    for container in pools.containers.of_pools() {
        let home = container.belonging.as_ref().and_then(|home| {
            let pool = pools.pools.read().get(&home.pool).cloned();
            pool.filter(|pool| pool.origin.created == home.pool_created)
        });
        match home {
            Some(pool) => take_in(&pool, &container),
            None => {
                pools.containers.dismiss(container.origin.id, "its pool is gone");
            }
        }
    }
    for pool in found {
        tokio::spawn(keeper::keep(Arc::downgrade(&pool)));
        if pool.state.lock().record.deleting {
            let pools = pools.clone();
            tokio::spawn(async move {
                let name = pool.origin.name.clone();
                if let Err(error) = pools.finish(pool).await {
                    tracing::error!(pool = name, %error, "a pool could not be deleted yet");
                }
            });
        }
    }
    Ok(())
}

/// Loans that were told of and are not on record.
async fn note_loans(pools: &Arc<Pools>) {
    for (id, loan) in pools.marks.all() {
        match loan {
            Some(loan) => {
                // Nothing to do where the record was on disk after all.
                if pools.containers.lend_again(id, loan).is_some()
                    && let Err(error) = pools.containers.keep_loan(id).await
                {
                    // The note stays for the next server.
                    tracing::error!(container = %id, %error, "a lease could not be recorded yet");
                    continue;
                }
            }
            // Somebody may have it, but nobody knows who.
            None => {
                pools.containers.dismiss(id, "the note of its lease is damaged");
            }
        }
        pools.marks.remove(id);
    }
}

/// A container that was there before this server.
fn take_in(pool: &Arc<Pool>, container: &Container) {
    let id = container.origin.id;
    let mut state = pool.state.lock();
    if container.status.ending.is_some() || container.status.state == ContainerState::Stopping {
        state.stopping.insert(id);
        tokio::spawn(keeper::mind(pool.clone(), id));
    } else if let Some(loan) = container.loan() {
        state.leased.insert(id, loan.expires);
        tokio::spawn(keeper::mind(pool.clone(), id));
    } else {
        // It is lent when it has answered.
        state.starting += 1;
        tokio::spawn(meet(pool.clone(), container.clone()));
    }
}

/// Waits for a container that is being found again, or made to the end.
async fn meet(pool: Arc<Pool>, container: Container) {
    let id = container.origin.id;
    match pool.containers.answers(id).await {
        // One that is silent is replaced if it stays so.
        Fitness::Fit | Fitness::Silent => pool.arrived(&container),
        Fitness::Unwell => pool.unwell(&container, "its health check failed"),
        Fitness::Over => {
            {
                let mut state = pool.state.lock();
                state.starting = state.starting.saturating_sub(1);
                state.stopping.insert(id);
            }
            keeper::mind(pool, id).await;
        }
    }
}
