//! Leases of background jobs: one holder at a time, for as long as it renews.

use std::time::Duration;

use roundtable::ids::NodeId;

use super::{Backend, on_both_stores};

on_both_stores!(a_job_has_one_holder_until_its_lease_ends_or_is_given_back);

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

async fn a_job_has_one_holder_until_its_lease_ends_or_is_given_back(backend: Backend) {
    let node = |name| NodeId::parse(name).expect("a valid id");
    let (one, two) = (node("n-1"), node("n-2"));
    let lead =
        async |job: &str, holder: &NodeId, lease| backend.store.lead(job, holder, lease).await.expect("it is there");

    assert!(lead("sweep", &one, LONG).await);
    assert!(lead("sweep", &one, LONG).await, "renewed");
    assert!(!lead("sweep", &two, LONG).await, "it is another's");
    assert!(lead("other", &two, LONG).await, "each job for itself");

    backend.store.resign("sweep", &two).await.expect("harmless");
    assert!(!lead("sweep", &two, LONG).await, "only its holder gives it back");
    backend.store.resign("sweep", &one).await.expect("it is there");
    assert!(lead("sweep", &two, SHORT).await);

    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !lead("sweep", &one, LONG).await {
        assert!(std::time::Instant::now() < deadline, "a lease that is not renewed ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
