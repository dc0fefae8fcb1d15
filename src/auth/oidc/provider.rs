//! What is asked of the provider: its metadata and keys, and an id token for a code.
//!
//! Bounds: one question at a time for metadata, each within [`ASK_WITHIN`] and of [`ANSWER_BYTES`]; a provider that did not
//! answer is not asked again for [`AWAY_FOR`]; keys are fetched again at most every [`KEYS_EVERY`]. No redirect is followed.

use std::pin::Pin;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    HttpRequest, HttpResponse, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    Scope, TokenResponse, core,
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::OidcError;
use crate::config::{self, Invalid};

/// Longest wait for one answer.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of the longest answer read.
const ANSWER_BYTES: usize = 1024 * 1024;
/// How long metadata and keys are good without another look.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
/// How long a provider that did not answer is left alone.
const AWAY_FOR: Duration = Duration::from_secs(2);
/// How often keys are fetched again because a token was signed by none of them.
const KEYS_EVERY: Duration = Duration::from_secs(10);
/// Longest code taken from a browser.
const CODE_BYTES: usize = 4_096;

/// Those by the provider's public keys. Not HS256, whose key would be the client's secret.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 10] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EcdsaP521Sha512,
    CoreJwsSigningAlgorithm::EdDsa,
];

pub(super) struct Provider {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: ClientSecret,
    redirect_url: RedirectUrl,
    scopes: Vec<String>,
    http: Http,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(CoreProviderMetadata, Instant)>,
    keys_fetched: Option<Instant>,
    /// When it last did not answer, and what was the matter.
    away: Option<(Instant, String)>,
}

impl Provider {
    pub(super) fn new(settings: &config::Oidc) -> Result<Self, Invalid> {
        let url = "an https:// URL";
        Ok(Self {
            issuer: IssuerUrl::new(settings.issuer.clone())
                .map_err(|_| Invalid::new("auth.oidc.issuer", &settings.issuer, url))?,
            redirect_url: RedirectUrl::new(settings.redirect_url.clone())
                .map_err(|_| Invalid::new("auth.oidc.redirect_url", &settings.redirect_url, url))?,
            client_id: ClientId::new(settings.client_id.clone()),
            client_secret: ClientSecret::new(settings.client_secret.expose().to_owned()),
            scopes: settings.scopes.to_vec(),
            http: Http::new(settings.issuer.starts_with("http://")).map_err(|why| {
                Invalid::new("auth.oidc.issuer", &settings.issuer, &format!("reachable by TLS ({why})"))
            })?,
            known: Mutex::default(),
        })
    }

    /// Where the browser logs in.
    pub(super) async fn authorize_url(
        &self,
        state: String,
        nonce: String,
        verifier: String,
    ) -> Result<String, OidcError> {
        let client = CoreClient::from_provider_metadata(
            self.metadata().await?,
            self.client_id.clone(),
            Some(self.client_secret.clone()),
        )
        .set_redirect_uri(self.redirect_url.clone());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier));
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let (url, _, _) = client
            .authorize_url(flow, || CsrfToken::new(state), || Nonce::new(nonce))
            .add_scopes(self.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        Ok(url.into())
    }

    /// The claims of the id token that the provider gives for a code, once they hold.
    pub(super) async fn claims(&self, code: String, nonce: String, verifier: String) -> Result<Value, OidcError> {
        if code.is_empty() || code.len() > CODE_BYTES {
            return Err(OidcError::Again("the login provider sent no code that can be used; log in again"));
        }
        let metadata = self.metadata().await?;
        let token = self.exchange(&metadata, code, verifier).await?;
        let nonce = Nonce::new(nonce);
        let mut held = self.verify(&metadata, &token, &nonce);
        if matches!(held, Err(ClaimsVerificationError::SignatureVerification(_))) {
            // Keys change: what none of ours fits may fit one of today's.
            if let Some(metadata) = self.with_new_keys().await? {
                held = self.verify(&metadata, &token, &nonce);
            }
        }
        held.map_err(|error| {
            tracing::warn!(reason = reason(&error), "oidc.token.refused");
            match error {
                ClaimsVerificationError::Expired(_) => OidcError::Again("the login took too long; log in again"),
                _ => OidcError::Again("what the login provider sent does not hold; log in again"),
            }
        })?;
        payload(&token).ok_or(OidcError::Again("what the login provider sent can't be read; log in again"))
    }

    async fn exchange(
        &self,
        metadata: &CoreProviderMetadata,
        code: String,
        verifier: String,
    ) -> Result<CoreIdToken, OidcError> {
        let away = |why: &dyn std::fmt::Display| OidcError::Away(format!("the token endpoint: {why}"));
        // Basic is what a provider that says nothing takes.
        let by_post = metadata.token_endpoint_auth_methods_supported().is_some_and(|methods| {
            !methods.contains(&core::CoreClientAuthMethod::ClientSecretBasic)
                && methods.contains(&core::CoreClientAuthMethod::ClientSecretPost)
        });
        let secret = Some(self.client_secret.clone());
        let client = CoreClient::from_provider_metadata(metadata.clone(), self.client_id.clone(), secret)
            .set_redirect_uri(self.redirect_url.clone())
            .set_auth_type(if by_post { AuthType::RequestBody } else { AuthType::BasicAuth });
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|error| away(&error))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request.request_async(&self.http).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(refused) => {
                tracing::warn!(reason = refused.error().as_ref(), "oidc.code.refused");
                OidcError::Again(
                    "the login provider did not take the code, which counts once and not for long; log in again",
                )
            }
            RequestTokenError::Request(error) => away(&error),
            RequestTokenError::Parse(_, _) => away(&"an answer that can't be read"),
            RequestTokenError::Other(_) => away(&"an answer that is none"),
        })?;
        answer.id_token().cloned().ok_or_else(|| away(&"an answer without an id token"))
    }

    fn verify(
        &self,
        metadata: &CoreProviderMetadata,
        token: &CoreIdToken,
        nonce: &Nonce,
    ) -> Result<(), ClaimsVerificationError> {
        let secret = Some(self.client_secret.clone());
        let client = CoreClient::from_provider_metadata(metadata.clone(), self.client_id.clone(), secret);
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
        token.claims(&verifier, nonce).map(|_| ())
    }

    async fn metadata(&self) -> Result<CoreProviderMetadata, OidcError> {
        let mut known = self.known.lock().await;
        let stale = match &known.metadata {
            Some((metadata, since)) if since.elapsed() < KNOWN_FOR => return Ok(metadata.clone()),
            stale => stale.as_ref().map(|(metadata, _)| metadata.clone()),
        };
        if let Some((since, why)) = &known.away
            && since.elapsed() < AWAY_FOR
        {
            return stale.ok_or_else(|| OidcError::Away(why.clone()));
        }
        match CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await {
            Ok(metadata) => {
                let now = Instant::now();
                *known = Known { metadata: Some((metadata.clone(), now)), keys_fetched: Some(now), away: None };
                Ok(metadata)
            }
            Err(error) => {
                let why = format!("its metadata: {error}{}", cause(&error));
                known.away = Some((Instant::now(), why.clone()));
                // What was right an hour ago most likely still is; should it not be, the token does not hold.
                stale.ok_or(OidcError::Away(why))
            }
        }
    }

    /// `None`: they were fetched just now.
    async fn with_new_keys(&self) -> Result<Option<CoreProviderMetadata>, OidcError> {
        let mut known = self.known.lock().await;
        if known.keys_fetched.is_some_and(|since| since.elapsed() < KEYS_EVERY) {
            // By another login, perhaps, after this one took its copy.
            return Ok(known.metadata.as_ref().map(|(metadata, _)| metadata.clone()));
        }
        let Some((metadata, since)) = known.metadata.clone() else { return Ok(None) };
        known.keys_fetched = Some(Instant::now());
        let keys = CoreJsonWebKeySet::fetch_async(metadata.jwks_uri(), &self.http)
            .await
            .map_err(|error| OidcError::Away(format!("its keys: {error}{}", cause(&error))))?;
        let metadata = metadata.set_jwks(keys);
        known.metadata = Some((metadata.clone(), since));
        Ok(Some(metadata))
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// What of a refused token may be logged.
fn reason(error: &ClaimsVerificationError) -> &'static str {
    match error {
        ClaimsVerificationError::Expired(_) => "expired",
        ClaimsVerificationError::InvalidAudience(_) => "audience",
        ClaimsVerificationError::InvalidIssuer(_) => "issuer",
        ClaimsVerificationError::InvalidNonce(_) => "nonce",
        ClaimsVerificationError::SignatureVerification(_) => "signature",
        _ => "other",
    }
}

/// The claims as they stand in a token that was verified.
fn payload(token: &CoreIdToken) -> Option<Value> {
    let text = token.to_string();
    let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The provider's way out: TLS unless the issuer itself is plain, which the settings allow on this machine alone.
struct Http {
    client: reqwest::Client,
    plain: bool,
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0}")]
    Failed(String),
    #[error("status {0}")]
    Status(u16),
    #[error("an answer of more than {ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("an address that is not https")]
    Plain,
}

impl Http {
    fn new(plain: bool) -> Result<Self, String> {
        // The only provider of the build, but the library asks for the process's. A second call finds the first's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ASK_WITHIN)
            .user_agent(concat!("roundtable/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, plain })
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.uri().scheme_str() != Some("https") && !self.plain {
            return Err(HttpError::Plain);
        }
        // Without the address, which may hold what is nobody's business.
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            HttpError::Failed(format!("{error}{}", cause(&error)))
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut answer = self.client.execute(request).await.map_err(failed)?;
        if answer.status().is_server_error() {
            return Err(HttpError::Status(answer.status().as_u16()));
        }
        let mut head = openidconnect::http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            head = head.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        head.body(body).map_err(|error| HttpError::Failed(error.to_string()))
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}
