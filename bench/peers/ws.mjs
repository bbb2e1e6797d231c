// npm `ws` as a broadcast server, and server-sent events with Node's own http: `node ws.mjs PORT
// [CERT KEY]`. What a socket sends goes to the room named at bytes 32 to 40 of it; so does what is
// posted to /pub. A message is framed for each subscriber, as `ws` does it; heartbeats as its
// documentation shows them.

import { readFileSync } from "node:fs"
import http from "node:http"
import https from "node:https"
import { WebSocketServer } from "ws"

const [port, cert, key] = process.argv.slice(2)
const sockets = new Map()
const streams = new Map()

const roomOf = (bytes) => bytes.toString("latin1", 32, 40)
const roomsOf = (url) => new URL(url, "http://x").searchParams.get("rooms").split(",")

function join(rooms, url, member) {
  const names = roomsOf(url)
  for (const name of names) {
    if (!rooms.has(name)) rooms.set(name, new Set())
    rooms.get(name).add(member)
  }
  return () => names.forEach((name) => rooms.get(name).delete(member))
}

function answer(request, response) {
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" })
    response.write(":\n\n")
    response.on("close", join(streams, request.url, response))
    response.on("error", () => {})
    return
  }
  const pieces = []
  request.on("data", (piece) => pieces.push(piece))
  request.on("end", () => {
    const body = Buffer.concat(pieces)
    const event = Buffer.from(`data: ${body}\n\n`)
    for (const stream of streams.get(roomOf(body)) ?? []) stream.write(event)
    response.writeHead(204).end()
  })
}

const options = { noDelay: true, requestTimeout: 0 }
const server = cert
  ? https.createServer({ ...options, cert: readFileSync(cert), key: readFileSync(key) }, answer)
  : http.createServer(options, answer)

const wss = new WebSocketServer({ server, perMessageDeflate: false })
wss.on("connection", (socket, request) => {
  socket.isAlive = true
  socket.on("pong", () => (socket.isAlive = true))
  socket.on("error", () => {})
  socket.on("close", join(sockets, request.url, socket))
  socket.on("message", (data, binary) => {
    for (const member of sockets.get(roomOf(data)) ?? []) member.send(data, { binary })
  })
})

setInterval(() => {
  for (const socket of wss.clients) {
    if (!socket.isAlive) {
      socket.terminate()
      continue
    }
    socket.isAlive = false
    socket.ping()
  }
  for (const members of streams.values()) for (const stream of members) stream.write(":\n\n")
}, 25_000)

server.listen({ port: Number(port), host: "127.0.0.1", backlog: 65_535 })
