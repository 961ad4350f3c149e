//! The feature level, as far as one release alone can show it; `e2e/tests/upgrades.rs` has two.

use reqwest::Method;
use serde_json::json;

use crate::world::{OPERATOR, World};

const PATH: &str = "/api/v1/installation/feature-level";

#[tokio::test(flavor = "multi_thread")]
async fn the_feature_level_is_shown_and_not_raised_above_what_processes_know() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let shown = async || {
        let shown = api.call(Method::GET, PATH).key(OPERATOR).send().await.expect(200);
        (shown.body["level"].clone(), shown.body["known"].clone())
    };
    let before = world.commits().await;
    assert_eq!(shown().await, (json!(0), json!(0)));
    let refused = api.post(PATH, OPERATOR, &json!({"level": 1})).send().await;
    let refused = refused.problem(409, "feature-level-unknown");
    assert!(
        refused.text.contains("`annals feature-level`"),
        "{}",
        refused.text
    );
    let same = api.post(PATH, OPERATOR, &json!({"level": 0})).send().await;
    assert_eq!(same.expect(200).body, json!({"level": 0}));
    for strange in [
        json!({"level": 65_536}),
        json!({"level": -1}),
        json!({"level": "1"}),
        json!({}),
    ] {
        let refused = api.post(PATH, OPERATOR, &strange).send().await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{}", refused.text);
    }
    api.call(Method::GET, PATH)
        .key(&tenant.key)
        .send()
        .await
        .problem(403, "forbidden");
    api.post(PATH, &tenant.key, &json!({"level": 0}))
        .send()
        .await
        .problem(403, "forbidden");
    assert_eq!(shown().await, (json!(0), json!(0)));
    assert_eq!(world.commits().await, before, "nothing was written");
}
