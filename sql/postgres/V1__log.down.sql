-- The way back from V1: everything goes. Not run by the server; by hand, with the server stopped.
DROP FUNCTION append_messages;
DROP TABLE logins, users, people, doomed_rooms, reactions, entries, room_heads, rooms;
DELETE FROM refinery_schema_history WHERE version = 1;
