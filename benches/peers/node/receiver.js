// The Express receiver: verify, insert, answer.

import crypto from "node:crypto";
import express from "express";
import pg from "pg";

const key = Buffer.from(process.env.SIGNING_KEY.replace(/^whsec_/, ""), "base64");
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
const app = express();

function isVerified(request) {
  const id = request.header("webhook-id") ?? "";
  const sentAt = request.header("webhook-timestamp") ?? "";
  if (!/^\d+$/.test(sentAt) || Math.abs(Date.now() / 1000 - Number(sentAt)) > 300) return false;
  const expected = crypto.createHmac("sha256", key).update(`${id}.${sentAt}.`).update(request.body).digest();
  return (request.header("webhook-signature") ?? "").split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return given.length === expected.length && crypto.timingSafeEqual(given, expected);
  });
}

app.post("/webhook", express.raw({ type: "application/json" }), async (request, response) => {
  if (!isVerified(request)) return response.status(401).end();
  const body = request.body.toString("utf8");
  const event = JSON.parse(body);
  await pool.query({
    // A name has the statement prepared once for each connection.
    name: "insert",
    text: "insert into event (id, type, created_at, payload) values ($1, $2, $3, $4) on conflict do nothing",
    values: [event.id, event.data.type, event.created_at, body],
  });
  response.status(204).end();
});

app.listen(Number(process.env.PORT), "127.0.0.1");
