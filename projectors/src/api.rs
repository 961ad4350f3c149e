//! What operators ask of the projectors over HTTP: whether the tables are what the log says, rebuilds, the way back,
//! parked events tried again or passed over.
//!
//! It is the projectors' and not the query side's, because it needs the log and the owner's access to both stores.

mod caller;
mod error;
mod generations;
mod parked;
mod until;
mod verify;

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit};
use event_log::Log;
use read_models::{Reader, Writer, clickhouse};
use tokio::sync::{OnceCell, Semaphore};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{caller::OperatorKey, error::Error};
use crate::{Config, run::Dependencies, verify::Verifier};

/// The largest body, in bytes.
const SMALL: usize = 16 * 1024;

/// What the routes need. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    log: Log,
    postgres_url: String,
    /// Connected when first asked for, so that the routes are there before the database is.
    control: OnceCell<Writer>,
    /// For the keys of callers.
    reader: Reader,
    rows: clickhouse::Writer,
    operator_key: Option<OperatorKey>,
    /// For so long a key of the directory is believed after the directory was last complete.
    keys_unconfirmed: Duration,
    /// One verification at a time: each may take the memory that is set aside for it.
    verifying: Arc<Semaphore>,
}

impl App {
    /// Prepares connections; the first request opens them. `operator_key` is the first operator's, beside the keys
    /// of the directory. Must be called within a runtime.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(
        config: &Config,
        dependencies: &Dependencies,
        operator_key: Option<&str>,
    ) -> Result<Self, read_models::Error> {
        Ok(Self(Arc::new(Inner {
            log: dependencies.log.clone(),
            postgres_url: config.postgres_url.clone(),
            control: OnceCell::new(),
            reader: Reader::connect(&config.postgres_url, 1)?,
            rows: clickhouse::Writer::new(&config.clickhouse(dependencies)),
            operator_key: operator_key.map(OperatorKey::new),
            keys_unconfirmed: Duration::from_secs(config.keys_unconfirmed_seconds),
            verifying: Arc::new(Semaphore::new(1)),
        })))
    }

    async fn control(&self) -> Result<&Writer, Error> {
        let connect = || Writer::connect(&self.0.postgres_url);
        Ok(self.0.control.get_or_try_init(connect).await?)
    }

    async fn verifier(&self) -> Result<Verifier, Error> {
        let control = self.control().await?.clone();
        Ok(Verifier::new(self.0.log.clone(), control, self.0.rows.clone()))
    }
}

/// The routes, without what [`service::finish`] puts around them.
pub fn router(app: App) -> Router {
    described().split_for_parts().0.with_state(app)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// What stands in no route.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Annals: projectors", description = "Operators' work on projections."),
    components(schemas(service::Problem, service::FieldError)),
    tags((name = "operation", description = "For operators"))
)]
struct Description;

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(verify::verify))
        .routes(routes!(generations::list))
        .routes(routes!(
            generations::begin,
            generations::steer,
            generations::cancel
        ))
        .routes(routes!(generations::rollback))
        .routes(routes!(generations::remove))
        .routes(routes!(parked::retry))
        .routes(routes!(parked::skip))
        .layer(DefaultBodyLimit::max(SMALL))
}
