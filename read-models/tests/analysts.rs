//! What analysts see: a comment on everything, and no tenant's rows but those that they were given.

use read_models::{
    Advance, Error, Projection, Writer,
    generation::frozen::{Cut, Freeze, Name},
    scratch::Scratch,
};
use sqlx::{Connection as _, Executor as _, PgConnection};

#[tokio::test]
async fn analysts_see_comments_and_their_own_tenants() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    for projection in [Projection::Directory, Projection::Content, Projection::Downloads] {
        assert!(writer.prepare(projection, 2, "1").await.unwrap().fresh);
        assert!(!writer.prepare(projection, 2, "1").await.unwrap().fresh);
    }
    let mut owner = PgConnection::connect(&scratch.url()).await.unwrap();

    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s.%s.%s', n.nspname, c.relname, a.attname)
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relkind IN ('r', 'v') AND c.relname <> '_sqlx_migrations'
           AND (n.nspname IN ('annals', 'live') OR n.nspname ~ '_1$')
           AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(bare, Vec::<String>::new(), "without a comment");

    owner
        .execute(
            "INSERT INTO directory_1.tenants (tenant, name, created_at, version)
             SELECT gen_random_uuid(), 'tenant ' || n, now(), 1 FROM generate_series(1, 3) n",
        )
        .await
        .unwrap();
    let mut reader = PgConnection::connect(&scratch.reader_url()).await.unwrap();
    let seen = async |reader: &mut PgConnection| -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM live.tenants")
            .fetch_one(reader)
            .await
            .unwrap()
    };
    assert_eq!(seen(&mut reader).await, 0);
    let one = "INSERT INTO annals.analysts (role, tenant) SELECT 'annals_scratch_reader', tenant FROM directory_1.tenants LIMIT 1";
    owner.execute(one).await.unwrap();
    assert_eq!(seen(&mut reader).await, 1);
    owner
        .execute("INSERT INTO annals.analysts (role, tenant) VALUES ('annals_scratch_reader', NULL)")
        .await
        .unwrap();
    assert_eq!(seen(&mut reader).await, 3);
    reader
        .execute("SELECT secret_hash FROM live.keys")
        .await
        .unwrap_err();

    // The reader reads, and does nothing else.
    for statement in [
        "DELETE FROM directory_1.tenants",
        "UPDATE annals.checkpoints SET next_offset = 0",
        "INSERT INTO annals.analysts (role) VALUES ('annals_scratch_reader')",
        "CREATE TABLE content_1.mine (n integer)",
        "DROP SCHEMA content_1 CASCADE",
    ] {
        reader.execute(statement).await.unwrap_err();
    }
    reader.execute("SELECT * FROM directory_1.keys").await.unwrap();

    // A view survives the making of its projection's tables.
    writer
        .tables(Projection::Directory, 1, 1)
        .drop_all()
        .await
        .unwrap();
    assert!(writer.prepare(Projection::Directory, 2, "1").await.unwrap().fresh);
    assert_eq!(seen(&mut reader).await, 0);
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn what_people_built_on_the_views_follows_them_and_is_never_dropped() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let (projection, mut owner) = (
        Projection::Downloads,
        PgConnection::connect(&scratch.url()).await.unwrap(),
    );
    for (fold, number) in [("1", 1), ("2", 2)] {
        assert_eq!(writer.prepare(projection, 1, fold).await.unwrap().number, number);
    }
    owner
        .execute("CREATE VIEW public.mine AS SELECT title FROM live.downloads")
        .await
        .unwrap();
    writer.show_live(projection, 2).await.unwrap();
    let shown: String = sqlx::query_scalar("SELECT pg_get_viewdef('live.downloads'::regclass)")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(shown.contains("downloads_2.downloads"), "{shown}");
    let refused = writer.erase_generation(projection, 2).await;
    assert!(matches!(refused, Err(Error::IsShown { .. })), "{refused:?}");
    writer.show_live(projection, 1).await.unwrap();
    writer.erase_generation(projection, 2).await.unwrap();
    owner.execute("SELECT * FROM public.mine").await.unwrap();

    // Columns of other names cannot be put in their place.
    owner
        .execute("ALTER TABLE downloads_1.downloads RENAME COLUMN title TO name")
        .await
        .unwrap();
    let refused = writer.show_live(projection, 1).await.unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(refused));
    assert!(
        text.contains("view mine depends on view live.downloads") && text.contains("drop that"),
        "{text}"
    );
    owner
        .execute("SELECT * FROM public.mine; DROP VIEW public.mine")
        .await
        .unwrap();
    writer.show_live(projection, 1).await.unwrap();
    owner.execute("SELECT name FROM live.downloads").await.unwrap();
    writer.close().await;
    scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_processes_may_migrate_at_once() {
    let scratch = Scratch::for_test().await;
    let at_once: Vec<_> = (0..6)
        .map(|_| {
            let (owner, reader) = (scratch.url(), scratch.reader_url());
            tokio::spawn(async move { read_models::migrate(&owner, Some(&reader)).await })
        })
        .collect();
    for migrated in at_once {
        migrated.await.unwrap().unwrap();
    }
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn another_fold_is_built_beside_the_live_generation_and_broken_tables_are_filled_in_their_place() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    for (partitions, fold, number, fresh) in [
        (2, "1", 1, true),
        (2, "1", 1, false),
        // Other partitions: its checkpoints are not whole.
        (3, "1", 1, true),
        (3, "1", 1, false),
        (3, "2", 2, true),
        (3, "2", 2, false),
        // A release comes that is neither of them: what the last one was building goes.
        (3, "3", 3, true),
        (3, "1", 1, false),
    ] {
        let made = writer
            .prepare(Projection::Content, partitions, fold)
            .await
            .unwrap();
        assert_eq!((made.number, made.fresh), (number, fresh), "{partitions} {fold}");
        assert_eq!(writer.live(Projection::Content).await.unwrap(), 1);
    }
    let known = writer.generations(Some(Projection::Content)).await.unwrap();
    let states: Vec<_> = known
        .iter()
        .map(|it| (it.generation, it.state.as_str()))
        .collect();
    assert_eq!(states, [(1, "live"), (3, "building")]);
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_stays_and_is_shown_to_the_same_people_under_its_name() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let projection = Projection::Directory;
    let name = Name::parse(projection, "directory_at").unwrap();
    let cut = Cut::Places(vec![3, 0]);
    let freeze = Freeze {
        projection,
        partitions: 2,
        fold: "1",
        name: &name,
        until: "a position",
        cut: &cut,
        why: "a test",
        rate: None,
    };
    let early = writer.begin_freeze(&freeze).await;
    assert!(matches!(early, Err(Error::NotLive(_))), "{early:?}");
    writer.prepare(projection, 2, "1").await.unwrap();
    // What somebody else calls so is left alone.
    scratch.execute("CREATE SCHEMA directory_at").await.unwrap();
    let taken = writer.begin_freeze(&freeze).await;
    assert!(matches!(taken, Err(Error::NameTaken(_))), "{taken:?}");
    scratch.execute("DROP SCHEMA directory_at").await.unwrap();
    assert_eq!(writer.begin_freeze(&freeze).await.unwrap(), 2);

    // The database itself lets nobody beyond the cut, and lets it become nothing else.
    let at = writer.take_over(projection, 2, 0).await.unwrap();
    assert_eq!((at.cut, at.end(2), at.end(9)), (Some(3), 2, 3));
    let to = |next_offset| Advance {
        next_offset,
        epoch: 1,
        seq: 1,
        hash: [0; 32],
        log_end: 9,
        last_time: None,
    };
    let tables = writer.tables(projection, 2, 1);
    let beyond = tables.begin(&at).await.unwrap().commit(&to(4)).await;
    let Err(Error::Refused { constraint, .. }) = beyond else {
        panic!("{beyond:?}")
    };
    assert_eq!(constraint.as_deref(), Some("checkpoints_not_beyond_its_cut"));
    for state in ["live", "kept", "building"] {
        let change = format!("UPDATE annals.generations SET state = '{state}' WHERE generation = 2");
        let refused = scratch.execute(&change).await.unwrap_err().to_string();
        assert!(refused.contains("frozen_never_lives"), "{refused}");
    }

    // Not complete: it is not frozen, and nobody sees it.
    writer.freeze(projection, 2).await.unwrap();
    let one = "INSERT INTO directory_2.tenants (tenant, name, created_at, version) SELECT gen_random_uuid(), 'one', now(), 1";
    scratch.execute(one).await.unwrap();
    let mut reader = PgConnection::connect(&scratch.reader_url()).await.unwrap();
    let all = "SELECT count(*) FROM directory_at.tenants";
    sqlx::query_scalar::<_, i64>(all)
        .fetch_one(&mut reader)
        .await
        .unwrap_err();
    tables.begin(&at).await.unwrap().commit(&to(3)).await.unwrap();
    // A start of this release leaves it where it is; that of another release fills it anew, up to the same cut.
    writer.prepare(projection, 2, "1").await.unwrap();
    assert_eq!(writer.positions(projection, 2).await.unwrap(), [3, 0]);
    writer.prepare(projection, 2, "2").await.unwrap();
    assert_eq!(writer.positions(projection, 2).await.unwrap(), [0, 0]);
    let at = writer.take_over(projection, 2, 0).await.unwrap();
    assert_eq!(at.cut, Some(3));
    scratch.execute(one).await.unwrap();
    tables.begin(&at).await.unwrap().commit(&to(3)).await.unwrap();
    writer.freeze(projection, 2).await.unwrap();
    let seen =
        async |reader: &mut PgConnection| sqlx::query_scalar::<_, i64>(all).fetch_one(reader).await.unwrap();
    assert_eq!(seen(&mut reader).await, 0);
    scratch
        .execute("INSERT INTO annals.analysts (role, tenant) VALUES ('annals_scratch_reader', NULL)")
        .await
        .unwrap();
    assert_eq!(seen(&mut reader).await, 1);
    reader
        .execute("SELECT secret_hash FROM directory_at.keys")
        .await
        .unwrap_err();
    // Complete, it is no business of any release that starts.
    writer.prepare(projection, 2, "3").await.unwrap();
    assert_eq!(writer.positions(projection, 2).await.unwrap(), [3, 0]);
    assert_eq!(writer.live(projection).await.unwrap(), 1);
    writer.erase_generation(projection, 2).await.unwrap();
    reader
        .execute("SELECT * FROM directory_at.keys")
        .await
        .unwrap_err();
    scratch.erase().await.unwrap();
}
