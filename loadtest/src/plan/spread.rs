//! How readers and shards spread over nodes when neither knows of the other.

/// Shards that rooms are spread over (the server's `ids::SHARDS`).
pub const SHARDS: f64 = 1024.0;

/// Of `nodes` without one, how many hold at least one of `readers` that connected anywhere: the nodes beside the owner
/// to which a commit goes. At most `readers` and at most `nodes − 1`.
pub fn other_nodes(nodes: f64, readers: f64) -> f64 {
    if nodes <= 1.0 {
        return 0.0;
    }
    // 1 − (1 − 1/n)^r, in a form that stays exact where 1/n is tiny.
    (nodes - 1.0) * -(readers * (-1.0 / nodes).ln_1p()).exp_m1()
}

/// Shards of the node that has most: the smallest number that less than half a node is expected to exceed, where each
/// shard falls on any node alike. At most all of them.
pub fn most_shards(nodes: f64) -> f64 {
    if nodes <= 1.0 {
        return SHARDS;
    }
    let share = 1.0 / nodes;
    // Of a binomial distribution: P(k + 1) = P(k) (n − k) / (k + 1) p / (1 − p).
    let mut exactly = (SHARDS * (-share).ln_1p()).exp();
    let mut at_most = exactly;
    let mut shards = 0.0;
    while shards < SHARDS && nodes * (1.0 - at_most) >= 0.5 {
        exactly *= (SHARDS - shards) / (shards + 1.0) * share / (1.0 - share);
        at_most += exactly;
        shards += 1.0;
    }
    shards
}

/// Empty frames behind one frame with content, on a link that gets `frames_per_s` at random moments: the last number of
/// a link is repeated after each of these waits (the server's `actors/bus.rs`, `REPEATS`) unless something came since.
pub fn repeats(frames_per_s: f64) -> f64 {
    [0.1, 0.4, 1.5, 5.0].iter().map(|wait| (-frames_per_s * wait).exp()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_spread_over_nodes_as_chance_has_it() {
        assert_eq!(other_nodes(1.0, 50.0), 0.0);
        // Two nodes, one reader: on the other one half of the time.
        assert!((other_nodes(2.0, 1.0) - 0.5).abs() < 1e-12);
        // Three nodes, two readers: each other node is empty in 4 of 9 cases.
        assert!((other_nodes(3.0, 2.0) - 2.0 * 5.0 / 9.0).abs() < 1e-12);
        assert!((other_nodes(1e9, 7.0) - 7.0).abs() < 1e-6, "everyone alone");
        assert!((other_nodes(10.0, 1e9) - 9.0).abs() < 1e-12, "everywhere");
    }

    #[test]
    fn the_fullest_node_is_what_rendezvous_shows() {
        assert_eq!(most_shards(1.0), 1024.0);
        // Counted over the real placement by `cargo test --test it scale`: see loadtest/RESULTS.md.
        let near = |nodes: f64, low: f64, high: f64| {
            let most = most_shards(nodes);
            assert!(most >= low && most <= high, "{most} of {nodes} nodes");
        };
        near(3.0, 342.0, 380.0);
        near(10.0, 103.0, 130.0);
        near(100.0, 15.0, 24.0);
        near(1_000.0, 4.0, 8.0);
        near(100_000.0, 1.0, 3.0);
    }

    #[test]
    fn a_link_repeats_its_number_four_times_at_most() {
        assert!((repeats(0.0) - 4.0).abs() < 1e-12);
        assert!(repeats(1.0) > 1.7 && repeats(1.0) < 1.9);
        assert!(repeats(1_000.0) < 1e-9);
    }
}
