// Socket.IO as a broadcast server over WebSocket: `node socketio.mjs PORT [CERT KEY]`. What a socket
// emits as `m` goes to the room named at characters 32 to 40 of it. Pings are Socket.IO's own, every
// 25 seconds.

import { readFileSync } from "node:fs"
import http from "node:http"
import https from "node:https"
import { Server } from "socket.io"

const [port, cert, key] = process.argv.slice(2)
const options = { noDelay: true }
const server = cert
  ? https.createServer({ ...options, cert: readFileSync(cert), key: readFileSync(key) })
  : http.createServer(options)
const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
  pingInterval: 25_000,
  pingTimeout: 20_000,
})

io.on("connection", (socket) => {
  socket.join(socket.handshake.query.rooms.split(","))
  socket.on("m", (data) => io.to(data.slice(32, 40)).emit("m", data))
})

server.listen({ port: Number(port), host: "127.0.0.1", backlog: 65_535 })
