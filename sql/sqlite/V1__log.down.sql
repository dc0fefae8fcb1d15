-- The way back from V1: everything goes. Not run by the server; by hand, with the server stopped.
DROP TABLE logins;
DROP TABLE users;
DROP TABLE people;
DROP TABLE doomed_rooms;
DROP TABLE reactions;
DROP TABLE entries;
DROP TABLE rooms;
DELETE FROM refinery_schema_history WHERE version = 1;
