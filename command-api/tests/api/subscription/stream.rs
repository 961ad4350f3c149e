//! The stream without end, as an `EventSource` sees it.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{neighbours, types_of};
use crate::{
    world::{OPERATOR, Process, World, within},
    writer::fold,
};

/// A stream under way.
struct Listening {
    response: Response,
    rest: String,
    /// As a browser keeps it.
    last_id: String,
}

/// What came.
#[derive(Debug, PartialEq)]
enum Came {
    Message { event: String, text: String },
    Comment(String),
    End,
}

impl Listening {
    async fn open(process: &Process, key: &str, query: &str, last_id: &str) -> Self {
        let call = process
            .call(Method::GET, &format!("/api/v1/events?{query}"))
            .key(key);
        let call = call.header("accept", "text/html;q=0.1, Text/Event-Stream");
        let call = if last_id.is_empty() {
            call
        } else {
            call.header("last-event-id", last_id)
        };
        let response = call.open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            rest: String::new(),
            last_id: last_id.to_owned(),
        }
    }

    /// The next block, by the rules of the format.
    async fn next(&mut self) -> Came {
        loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let (mut event, mut text, mut comment) = ("message".to_owned(), Vec::new(), String::new());
                for line in block.lines() {
                    match line.split_once(": ").unwrap() {
                        ("id", id) => self.last_id = id.to_owned(),
                        ("data", data) => text.push(data),
                        ("event", name) => event = name.to_owned(),
                        ("", said) => comment = said.to_owned(),
                        ("retry", _) => {}
                        other => panic!("{other:?}"),
                    }
                }
                let came = if text.is_empty() {
                    Came::Comment(comment)
                } else {
                    Came::Message {
                        event,
                        text: text.join("\n"),
                    }
                };
                self.rest = rest.to_owned();
                return came;
            }
            match within("something is said", self.response.chunk()).await.unwrap() {
                Some(more) => self.rest.push_str(std::str::from_utf8(&more).unwrap()),
                None => return Came::End,
            }
        }
    }

    /// So many events.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                Came::Message { event, text } => {
                    assert_eq!(event, "message");
                    events.push(text);
                }
                Came::Comment(_) => {}
                Came::End => panic!("it ended after {events:?}"),
            }
        }
        events
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_what_was_and_what_comes_and_goes_on_after_any_message() {
    let world = World::new().await;
    let api = &world.process;
    let (ours, theirs, partition) = neighbours(&world).await;
    api.draft(&ours, "before").await;
    let mut listening = Listening::open(api, &ours.key, "", "").await;
    let mut heard = listening.events(1).await;
    let mut marks = vec![listening.last_id.clone()];
    for number in 0..5 {
        api.draft(&theirs, &format!("theirs {number}")).await;
        api.draft(&ours, &format!("ours {number}")).await;
        heard.extend(listening.events(1).await);
        marks.push(listening.last_id.clone());
    }
    // One command of several events.
    let mut priorities = serde_json::Map::new();
    for _ in 0..3 {
        let body = json!({"title": "a", "url": "https://example.org/"});
        let queued = api
            .post("/api/v1/downloads", &ours.key, &body)
            .send()
            .await
            .expect(201);
        priorities.insert(queued.body["id"].as_str().unwrap().to_owned(), json!(7));
    }
    let body = json!({"priorities": priorities});
    api.post("/api/v1/downloads/reorder", &ours.key, &body)
        .send()
        .await
        .expect(200);
    for _ in 0..6 {
        heard.extend(listening.events(1).await);
        marks.push(listening.last_id.clone());
    }
    let (_, whole) = fold(&world.log, partition, Some(ours.tenant())).await;
    let whole: Vec<_> = whole.into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, whole);
    drop(listening);
    for (index, last_id) in marks.iter().enumerate() {
        let mut again = Listening::open(api, &ours.key, "after=passed-over-is-not-this", last_id).await;
        let rest = whole.len() - index - 1;
        assert_eq!(again.events(rest).await, whole[index + 1..], "after {index}");
    }
    let mut some = Listening::open(api, &ours.key, "types=download.reprioritised.*", "").await;
    assert_eq!(types_of(&some.events(3).await), ["download.reprioritised.v1"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_its_process_in_its_position() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let mut listening = Listening::open(&world.process, &tenant.key, "", "").await;
    world.process.draft(&tenant, "before").await;
    listening.events(1).await;
    let (world, ended) = tokio::join!(world.restart(), async {
        loop {
            match listening.next().await {
                Came::Comment(said) if said.contains("stops") => break listening.next().await,
                Came::Comment(_) => {}
                other @ (Came::Message { .. } | Came::End) => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(ended, Came::End, "in order: the answer has its end");
    world.process.draft(&tenant, "after").await;
    let mut again = Listening::open(&world.process, &tenant.key, "", &listening.last_id).await;
    let event: Value = serde_json::from_str(&again.events(1).await[0]).unwrap();
    assert_eq!(event["data"]["title"], "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_key_and_says_so() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let key = api.issue(&tenant.id, &["read"]).await;
    let mut listening = Listening::open(api, &key, "", "").await;
    assert!(matches!(listening.next().await, Came::Comment(_)));
    let id = key.split('_').nth(1).unwrap();
    let revoke = api.call(Method::DELETE, &format!("/api/v1/keys/{id}"));
    revoke.key(OPERATOR).send().await.expect(200);
    let Came::Message { event, text } = listening.next().await else {
        panic!("no last word")
    };
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((event.as_str(), &problem["status"]), ("problem", &json!(401)));
    assert_eq!(listening.next().await, Came::End);
}

/// One that is far behind has always something to send.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_key_also_while_there_is_more() {
    const PIECES: usize = 60;
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    // More than connections hold on their way.
    let text = "x".repeat(400_000);
    for number in 0..PIECES {
        let body = json!({"site": tenant.domain, "kind": "post", "title": number.to_string(), "body": text});
        let draft = api.post("/api/v1/content", &tenant.key, &body);
        draft.send().await.expect(201);
    }
    let key = api.issue(&tenant.id, &["read"]).await;
    let mut listening = Listening::open(api, &key, "", "").await;
    let mut heard = listening.events(1).await.len();
    let id = key.split('_').nth(1).unwrap();
    let revoke = api.call(Method::DELETE, &format!("/api/v1/keys/{id}"));
    revoke.key(OPERATOR).send().await.expect(200);
    let last = loop {
        match listening.next().await {
            Came::Message { event, .. } if event == "message" => heard += 1,
            Came::Comment(_) => {}
            last @ (Came::Message { .. } | Came::End) => break last,
        }
    };
    assert!(
        matches!(&last, Came::Message { event, text } if event == "problem" && text.contains("401")),
        "{last:?}"
    );
    assert!(heard < PIECES, "it was told everything");
}
