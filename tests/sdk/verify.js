// Verifies a notification with the library of Standard Webhooks: {secret, headers, body} on standard input. Prints what the
// body says, or null if it is refused.

"use strict";

const fs = require("node:fs");
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const { secret, headers, body } = JSON.parse(fs.readFileSync(0, "utf8"));
let event = null;
try {
  event = new Webhook(secret).verify(body, headers);
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) {
    throw error;
  }
}
process.stdout.write(JSON.stringify(event));
