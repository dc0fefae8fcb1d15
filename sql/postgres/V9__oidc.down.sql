-- The way back from V9. People who log in by a provider lose the way to their accounts, whose ids stay taken.
DROP TABLE oidc_people;
DELETE FROM refinery_schema_history WHERE version = 9;
