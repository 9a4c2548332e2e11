// The browser tests, in the order in which they leave the scene fit for the next: first what only looks.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { everyAction } from "./actions.mjs";
import { whileItRefreshes, withoutAMouse } from "./keyboard.mjs";
import { everyPage } from "./pages.mjs";
import { Stage } from "./stage.mjs";

const stage = await Stage.set();
after(() => stage.strike());
everyPage(stage);
withoutAMouse(stage);
whileItRefreshes(stage);
everyAction(stage);
test("no page and no action of the console was left out", () => assert.deepEqual(stage.neverAsked(), []));
