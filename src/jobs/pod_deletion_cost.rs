//! Inside Kubernetes: keeps the annotation `controller.kubernetes.io/pod-deletion-cost` of this node's own pod about equal to
//! its sessions, so that a Deployment that gets smaller lets the emptiest pods go.
//!
//! Bounds: at most one request in [`EVERY`], and only where the number has changed by much, since each makes all who watch
//! pods look; it ends within [`WITHIN`]; after failures the pauses grow to [`AGAIN_MAX`]. Nobody waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use crate::config::Kubernetes;
use crate::metrics::Metrics;

const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Least pause between two requests.
pub const EVERY: Duration = Duration::from_secs(30);
/// Longest pause after failures.
const AGAIN_MAX: Duration = Duration::from_secs(600);
/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(10);
/// A change by no more than this, or this part, is not worth a request.
const SMALL: u64 = 10;
const SMALL_PART: u64 = 10;

/// Where the API server is.
#[derive(Clone, Debug)]
pub struct ApiServer {
    pub host: String,
    pub port: u16,
}

impl ApiServer {
    /// As every container is told; `None` outside Kubernetes.
    pub fn of_environment() -> Option<Self> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?.parse().ok()?;
        Some(Self { host, port })
    }
}

/// Tells until `stop`, where the settings want it and there is an API server. False: it does not.
pub fn start(
    settings: &Kubernetes,
    server: Option<ApiServer>,
    metrics: &Arc<Metrics>,
    every: Duration,
    stop: watch::Receiver<bool>,
) -> bool {
    if !settings.pod_deletion_cost {
        return false;
    }
    let Some(server) = server else {
        tracing::warn!("kubernetes.absent: kubernetes.pod_deletion_cost has no effect here");
        return false;
    };
    let pod =
        Pod { server, name: settings.pod_name.clone(), folder: settings.account_folder.clone().into(), client: None };
    actix_rt::spawn(tell(pod, metrics.clone(), every, stop));
    true
}

async fn tell(mut pod: Pod, metrics: Arc<Metrics>, every: Duration, mut stop: watch::Receiver<bool>) {
    // Not known, as the pod may have had an earlier process.
    let mut told: Option<u64> = None;
    let mut failed = false;
    let mut pause = Duration::ZERO;
    while timeout(pause, stop.wait_for(|stop| *stop)).await.is_err() {
        let sessions = u64::try_from(metrics.sessions.get()).unwrap_or(0);
        if told.is_some_and(|told| !is_news(told, sessions)) {
            pause = every;
            continue;
        }
        let answer = timeout(WITHIN, pod.costs(sessions)).await.unwrap_or(Err(Failure::TooLate));
        metrics.deletion_cost_told(answer.is_ok());
        match answer {
            Ok(()) => {
                told = Some(sessions);
                pause = every;
                if std::mem::take(&mut failed) {
                    tracing::info!("kubernetes.pod_deletion_cost.told");
                }
            }
            Err(error) => {
                pause = (pause * 2).clamp(every, AGAIN_MAX.max(every));
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(%error, "kubernetes.pod_deletion_cost.failed");
                }
            }
        }
    }
}

fn is_news(told: u64, sessions: u64) -> bool {
    told.abs_diff(sessions) > SMALL.max(told / SMALL_PART)
}

/// This node's pod, as the API server knows it.
struct Pod {
    server: ApiServer,
    /// Empty: the host's.
    name: String,
    folder: PathBuf,
    /// With the authority's certificates that it trusts.
    client: Option<(String, reqwest::Client)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("{0} of the service account can't be read, or is not what it should be")]
    Account(&'static str),
    #[error("the name of the pod is not known")]
    Name,
    #[error("the API server's address is not one")]
    Address,
    #[error("no connection to the API server")]
    NoConnection,
    #[error("no answer of the API server in time")]
    TooLate,
    #[error("the API server answered with status {0}")]
    Status(u16),
}

impl Pod {
    async fn costs(&mut self, sessions: u64) -> Result<(), Failure> {
        let url = self.url()?;
        // All of them change while the pod lives.
        let token = self.account("token")?;
        let client = self.client()?;
        let cost = i32::try_from(sessions).unwrap_or(i32::MAX).to_string();
        let patch = serde_json::json!({"metadata": {"annotations": {ANNOTATION: cost}}});
        let request = client
            .patch(url)
            .bearer_auth(token)
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        let answer = request
            .send()
            .await
            .map_err(|error| if error.is_builder() { Failure::Account("token") } else { Failure::NoConnection })?;
        if answer.status().is_success() { Ok(()) } else { Err(Failure::Status(answer.status().as_u16())) }
    }

    fn url(&self) -> Result<Url, Failure> {
        let ApiServer { host, port } = &self.server;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut url = Url::parse(&format!("https://{host}:{port}/api/v1/namespaces")).map_err(|_| Failure::Address)?;
        let namespace = self.account("namespace")?;
        let name = match self.name.as_str() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|_| Failure::Name)?,
            name => name.to_owned(),
        };
        let mut segments = url.path_segments_mut().map_err(|()| Failure::Address)?;
        segments.extend([namespace.as_str(), "pods", name.trim()]);
        drop(segments);
        Ok(url)
    }

    fn account(&self, file: &'static str) -> Result<String, Failure> {
        let text = std::fs::read_to_string(self.folder.join(file)).map_err(|_| Failure::Account(file))?;
        match text.trim() {
            "" => Err(Failure::Account(file)),
            text => Ok(text.to_owned()),
        }
    }

    fn client(&mut self) -> Result<reqwest::Client, Failure> {
        let authority = self.account("ca.crt")?;
        if let Some((trusted, client)) = &self.client
            && *trusted == authority
        {
            return Ok(client.clone());
        }
        // The only provider of the build; a second call finds the first's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let roots = reqwest::Certificate::from_pem_bundle(authority.as_bytes());
        let client = roots.and_then(|roots| {
            reqwest::Client::builder()
                .tls_certs_only(roots)
                .https_only(true)
                .no_proxy()
                .redirect(Policy::none())
                .http1_only()
                .pool_max_idle_per_host(0)
                .user_agent(concat!("roundtable/", env!("CARGO_PKG_VERSION")))
                .build()
        });
        let client = client.map_err(|_| Failure::Account("ca.crt"))?;
        self.client = Some((authority, client.clone()));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_no_news() {
        for (told, sessions, news) in [
            (0, 0, false),
            (0, 10, false),
            (0, 11, true),
            (11, 0, true),
            (1_000, 1_100, false),
            (1_000, 1_101, true),
            (1_000, 899, true),
            (u64::MAX, 0, true),
        ] {
            assert_eq!(is_news(told, sessions), news, "{told} {sessions}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join("namespace"), "chat\n").expect("written");
        let pod = |host: &str, name: &str| Pod {
            server: ApiServer { host: host.to_owned(), port: 443 },
            name: name.to_owned(),
            folder: folder.path().to_owned(),
            client: None,
        };
        let url = |host, name| pod(host, name).url().map(String::from);
        assert_eq!(url("10.0.0.1", "rt-1").as_deref(), Ok("https://10.0.0.1/api/v1/namespaces/chat/pods/rt-1"));
        assert_eq!(url("fd00::1", "rt-1").as_deref(), Ok("https://[fd00::1]/api/v1/namespaces/chat/pods/rt-1"));
        assert_eq!(
            url("10.0.0.1", "../../x?y").as_deref(),
            Ok("https://10.0.0.1/api/v1/namespaces/chat/pods/..%2F..%2Fx%3Fy")
        );
        assert_eq!(url("not an address", "rt-1"), Err(Failure::Address));
    }
}
