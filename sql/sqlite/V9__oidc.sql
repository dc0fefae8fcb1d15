-- Who an OpenID Connect provider's person is here: the id that was given at their first login stays theirs, whatever the
-- provider calls them later. One user a person and one person a user. Goes when the person is erased; the user's row stays.
CREATE TABLE oidc_people (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL UNIQUE REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
