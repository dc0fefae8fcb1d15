//! A small OpenID Connect provider: authorization code with PKCE, as strict as a real one about what it is told, and as
//! wrong in its tokens as a test wants it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::pkcs8::EncodePrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tokens::now_s;

pub const CLIENT: &str = "roundtable-test";
pub const SECRET: &str = "a client secret: of/the tests+only%";

/// Changes the claims of the next token.
type Twist = Box<dyn Fn(&mut Value) + Send>;

pub struct Provider {
    pub issuer: String,
    state: Arc<Mutex<State>>,
}

struct State {
    issuer: String,
    redirect_url: String,
    keys: Vec<Key>,
    /// Which key signs, and which are in the key set.
    signer: usize,
    published: Vec<usize>,
    /// Claims of whoever logs in next.
    person: Value,
    twist: Option<Twist>,
    codes: HashMap<String, Asked>,
    made: u64,
    away: bool,
    key_fetches: u32,
}

/// What came with the browser.
struct Asked {
    nonce: String,
    challenge: String,
}

struct Key {
    algorithm: Algorithm,
    id: String,
    private: EncodingKey,
    public: Value,
}

impl Provider {
    /// Listens, with an RS256 key in use. `redirect_url`: the only one that its client may be sent back to.
    pub fn start(redirect_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State {
            issuer: issuer.clone(),
            redirect_url: redirect_url.to_owned(),
            keys: vec![rsa_key("one")],
            signer: 0,
            published: vec![0],
            person: json!({"sub": "s-1"}),
            twist: None,
            codes: HashMap::new(),
            made: 0,
            away: false,
            key_fetches: 0,
        }));
        let shared = Data::from(state.clone());
        std::thread::spawn(move || {
            let app = move || {
                App::new()
                    .app_data(shared.clone())
                    .route("/.well-known/openid-configuration", web::get().to(metadata))
                    .route("/jwks", web::get().to(jwks))
                    .route("/authorize", web::get().to(authorize))
                    .route("/token", web::post().to(token))
            };
            let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("it listens").run();
            actix_rt::System::new().block_on(server)
        });
        Self { issuer, state }
    }

    /// Who logs in next.
    pub fn person(&self, claims: Value) {
        self.lock().person = claims;
    }

    /// Changes the claims of tokens from here on.
    pub fn twists(&self, twist: impl Fn(&mut Value) + Send + 'static) {
        self.lock().twist = Some(Box::new(twist));
    }

    pub fn twists_nothing(&self) {
        self.lock().twist = None;
    }

    /// Signs with a new ES256 key, which is in the key set or not.
    pub fn rotates(&self, published: bool) {
        let mut state = self.lock();
        let key = ec_key(&format!("key-{}", state.keys.len()));
        state.keys.push(key);
        state.signer = state.keys.len() - 1;
        if published {
            let signer = state.signer;
            state.published.push(signer);
        }
    }

    /// Signs with the first key again.
    pub fn signs_as_at_first(&self) {
        self.lock().signer = 0;
    }

    /// Answers 503 to everything, or not any more.
    pub fn is_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// How often its keys were asked for.
    pub fn key_fetches(&self) -> u32 {
        self.lock().key_fetches
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

fn rsa_key(id: &str) -> Key {
    // Made once: it takes a while.
    static KEY: OnceLock<rsa::RsaPrivateKey> = OnceLock::new();
    let key = KEY.get_or_init(|| rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).expect("a key"));
    let pem = key.to_pkcs1_pem(LineEnding::LF).expect("PEM");
    let number = |n: &rsa::BigUint| URL_SAFE_NO_PAD.encode(n.to_bytes_be());
    Key {
        algorithm: Algorithm::RS256,
        id: id.to_owned(),
        private: EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key"),
        public: json!({"kty": "RSA", "use": "sig", "kid": id, "n": number(key.n()), "e": number(key.e())}),
    }
}

fn ec_key(id: &str) -> Key {
    let key = p256::ecdsa::SigningKey::random(&mut rsa::rand_core::OsRng);
    let pem = key.to_pkcs8_pem(LineEnding::LF).expect("PEM");
    let point = key.verifying_key().to_encoded_point(false);
    let number = |bytes: Option<&p256::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.expect("not compressed"));
    Key {
        algorithm: Algorithm::ES256,
        id: id.to_owned(),
        private: EncodingKey::from_ec_pem(pem.as_bytes()).expect("a key"),
        public: json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": number(point.x()), "y": number(point.y())}),
    }
}

type Shared = Data<Mutex<State>>;

async fn metadata(state: Shared) -> HttpResponse {
    let state = state.lock().expect("no panic while held");
    if state.away {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let issuer = &state.issuer;
    HttpResponse::Ok().json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    }))
}

async fn jwks(state: Shared) -> HttpResponse {
    let mut state = state.lock().expect("no panic while held");
    state.key_fetches += 1;
    let keys: Vec<&Value> = state.published.iter().map(|&key| &state.keys[key].public).collect();
    HttpResponse::Ok().json(json!({"keys": keys}))
}

fn parameters(text: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
}

async fn authorize(state: Shared, request: HttpRequest) -> HttpResponse {
    let mut state = state.lock().expect("no panic while held");
    let asked = parameters(request.query_string());
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let right = of("client_id") == CLIENT
        && of("redirect_uri") == state.redirect_url
        && of("response_type") == "code"
        && of("scope").split(' ').any(|scope| scope == "openid")
        && of("code_challenge_method") == "S256"
        && of("code_challenge").len() == 43
        && !of("nonce").is_empty()
        && !of("state").is_empty();
    if !right {
        return HttpResponse::BadRequest().body(format!("{asked:?}"));
    }
    state.made += 1;
    let code = format!("code {}&/+", state.made);
    state.codes.insert(code.clone(), Asked { nonce: of("nonce"), challenge: of("code_challenge") });
    let mut back = url::Url::parse(&state.redirect_url).expect("a URL");
    back.query_pairs_mut().append_pair("code", &code).append_pair("state", &of("state"));
    HttpResponse::Found().insert_header(("location", back.as_str())).finish()
}

async fn token(state: Shared, request: HttpRequest, body: String) -> HttpResponse {
    let mut state = state.lock().expect("no panic while held");
    if state.away {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let refused = |error: &str| HttpResponse::BadRequest().json(json!({"error": error}));
    let authorization =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let basic = authorization.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let basic = String::from_utf8_lossy(&basic).into_owned();
    // RFC 6749 §2.3.1: both are form-encoded before they are joined.
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    if basic != format!("{}:{}", encoded(CLIENT), encoded(SECRET)) {
        return HttpResponse::Unauthorized().json(json!({"error": "invalid_client"}));
    }
    let sent = parameters(&body);
    let of = |name: &str| sent.get(name).cloned().unwrap_or_default();
    // A code counts once.
    let Some(asked) = state.codes.remove(&of("code")) else { return refused("invalid_grant") };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(of("code_verifier")));
    if of("grant_type") != "authorization_code"
        || of("redirect_uri") != state.redirect_url
        || challenge != asked.challenge
    {
        return refused("invalid_grant");
    }
    let mut claims = json!({
        "iss": state.issuer, "aud": CLIENT, "iat": now_s(), "exp": now_s() + 300, "nonce": asked.nonce,
    });
    let person = state.person.as_object().expect("an object").clone();
    claims.as_object_mut().expect("an object").extend(person);
    if let Some(twist) = &state.twist {
        twist(&mut claims);
    }
    let key = &state.keys[state.signer];
    let mut header = Header::new(key.algorithm);
    header.kid = Some(key.id.clone());
    let id_token = jsonwebtoken::encode(&header, &claims, &key.private).expect("claims are JSON");
    HttpResponse::Ok()
        .json(json!({"access_token": "unused", "token_type": "Bearer", "expires_in": 300, "id_token": id_token}))
}
