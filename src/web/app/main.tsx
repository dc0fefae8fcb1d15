// The page begins here.
import { render } from "preact";
import { start } from "./core/session.ts";
import "./core/theme.ts";
import { App } from "./pages/App.tsx";

const root = document.getElementById("app");
if (root) render(<App />, root);
void start();
