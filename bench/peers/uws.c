/* uWebSockets as a broadcast server, through the C interface of the library that socketify ships:
   no Python runs. Built by `cargo xtask bench`:

       cc -O2 -o uws uws.c libsocketify_linux_amd64.so -Wl,-rpath,FOLDER

   GET /ws?rooms=a,b   a WebSocket; what it sends goes to the room named at bytes 32 to 40 of it
   GET /sse?rooms=a    server-sent events
   POST /pub           an event for the room named in the body, as above

   Room names have eight characters. One thread, one loop. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct uws_app_s uws_app_t;
typedef struct uws_req_s uws_req_t;
typedef struct uws_res_s uws_res_t;
typedef struct uws_ws_s uws_ws_t;
typedef struct uws_context_s uws_context_t;
struct us_timer_t;
struct us_loop_t;

struct us_options {
    const char *key, *cert, *passphrase, *dh_params, *ca, *ciphers;
    int prefer_low_memory;
};

typedef struct {
    int compression;
    unsigned int max_payload_length;
    unsigned short idle_timeout;
    unsigned int max_backpressure;
    bool close_on_backpressure_limit;
    bool reset_idle_timeout_on_send;
    bool send_pings_automatically;
    unsigned short max_lifetime;
    void (*upgrade)(uws_res_t *, uws_req_t *, uws_context_t *, void *);
    void (*open)(uws_ws_t *, void *);
    void (*message)(uws_ws_t *, const char *, size_t, int, void *);
    void (*drain)(uws_ws_t *, void *);
    void (*ping)(uws_ws_t *, const char *, size_t, void *);
    void (*pong)(uws_ws_t *, const char *, size_t, void *);
    void (*close)(uws_ws_t *, int, const char *, size_t, void *);
    void (*subscription)(uws_ws_t *, const char *, size_t, int, int, void *);
} behavior_t;

typedef struct {
    int port;
    const char *host;
    int options;
} listen_t;

uws_app_t *uws_create_app(int, struct us_options);
bool uws_constructor_failed(int, uws_app_t *);
void uws_app_run(int, uws_app_t *);
void uws_app_listen_with_config(int, uws_app_t *, listen_t,
                                void (*)(void *, listen_t, void *), void *);
void uws_ws(int, uws_app_t *, const char *, behavior_t, void *);
void uws_app_get(int, uws_app_t *, const char *, void (*)(uws_res_t *, uws_req_t *, void *), void *);
void uws_app_post(int, uws_app_t *, const char *, void (*)(uws_res_t *, uws_req_t *, void *), void *);
bool uws_publish(int, uws_app_t *, const char *, size_t, const char *, size_t, int, bool);
bool uws_ws_subscribe(int, uws_ws_t *, const char *, size_t);
void *uws_ws_get_user_data(int, uws_ws_t *);
size_t uws_req_get_query(uws_req_t *, const char *, size_t, const char **);
size_t uws_req_get_header(uws_req_t *, const char *, size_t, const char **);
void uws_res_upgrade(int, uws_res_t *, void *, const char *, size_t, const char *, size_t,
                     const char *, size_t, uws_context_t *);
void uws_res_write_header(int, uws_res_t *, const char *, size_t, const char *, size_t);
bool uws_res_write(int, uws_res_t *, const char *, size_t);
void uws_res_end(int, uws_res_t *, const char *, size_t, bool);
void uws_res_cork(int, uws_res_t *, void (*)(uws_res_t *, void *), void *);
void uws_res_on_aborted(int, uws_res_t *, void (*)(uws_res_t *, void *), void *);
void uws_res_on_data(int, uws_res_t *, void (*)(uws_res_t *, const char *, size_t, bool, void *),
                     void *);
struct us_loop_t *uws_get_loop(void);
void uws_loop_defer(struct us_loop_t *, void (*)(void *), void *);
struct us_timer_t *us_create_timer(struct us_loop_t *, int, unsigned int);
void us_timer_set(struct us_timer_t *, void (*)(struct us_timer_t *), int, int);

enum { ROOM_AT = 32, ROOM = 8, TEXT = 1, HEARTBEAT_MS = 25000, SSE_ROOMS = 4096 };

static int ssl;
static uws_app_t *app;

/* The rooms of a socket travel from its upgrade to its opening in the pointer itself. */
static uintptr_t room_number(const char *name) {
    char text[ROOM + 1] = {0};
    memcpy(text, name, ROOM);
    return (uintptr_t)strtoul(text, NULL, 16);
}

static uintptr_t packed_rooms(uws_req_t *req) {
    const char *rooms;
    size_t length = uws_req_get_query(req, "rooms", 5, &rooms);
    uintptr_t first = length >= ROOM ? room_number(rooms) : 0;
    uintptr_t second = length >= 2 * ROOM + 1 ? room_number(rooms + ROOM + 1) : UINT32_MAX;
    return first | second << 32;
}

static void on_upgrade(uws_res_t *res, uws_req_t *req, uws_context_t *context, void *unused) {
    (void)unused;
    const char *key, *protocol, *extensions;
    size_t key_length = uws_req_get_header(req, "sec-websocket-key", 17, &key);
    size_t protocol_length = uws_req_get_header(req, "sec-websocket-protocol", 22, &protocol);
    size_t extensions_length = uws_req_get_header(req, "sec-websocket-extensions", 24, &extensions);
    uws_res_upgrade(ssl, res, (void *)packed_rooms(req), key, key_length, protocol,
                    protocol_length, extensions, extensions_length, context);
}

static void on_open(uws_ws_t *ws, void *unused) {
    (void)unused;
    uintptr_t rooms = (uintptr_t)uws_ws_get_user_data(ssl, ws);
    char name[ROOM + 1];
    for (int at = 0; at < 2; at++) {
        uint32_t room = (uint32_t)(rooms >> (32 * at));
        if (room == UINT32_MAX) continue;
        snprintf(name, sizeof name, "%08x", room);
        uws_ws_subscribe(ssl, ws, name, ROOM);
    }
}

static void on_message(uws_ws_t *ws, const char *message, size_t length, int opcode, void *unused) {
    (void)ws, (void)unused;
    if (length < ROOM_AT + ROOM) return;
    uws_publish(ssl, app, message + ROOM_AT, ROOM, message, length, opcode, false);
}

/* Server-sent events: the subscribers of each room in an array, each knowing its place. */
struct client {
    uws_res_t *res;
    uint32_t room, at;
};
static struct {
    struct client **all;
    uint32_t count, room_for;
    /* Events of this turn of the loop. */
    char *events;
    size_t length, bytes_for;
} sse[SSE_ROOMS];

static void on_sse_aborted(uws_res_t *res, void *data) {
    (void)res;
    struct client *client = data;
    struct client *last = sse[client->room].all[--sse[client->room].count];
    sse[client->room].all[last->at = client->at] = last;
    free(client);
}

static void on_sse(uws_res_t *res, uws_req_t *req, void *unused) {
    (void)unused;
    uint32_t room = (uint32_t)packed_rooms(req) % SSE_ROOMS;
    struct client *client = malloc(sizeof *client);
    if (sse[room].count == sse[room].room_for) {
        sse[room].room_for = sse[room].room_for ? 2 * sse[room].room_for : 16;
        sse[room].all = realloc(sse[room].all, sse[room].room_for * sizeof client);
    }
    *client = (struct client){res, room, sse[room].count};
    sse[room].all[sse[room].count++] = client;
    uws_res_write_header(ssl, res, "Content-Type", 12, "text/event-stream", 17);
    uws_res_on_aborted(ssl, res, on_sse_aborted, client);
    uws_res_write(ssl, res, ":\n\n", 3);
}

struct piece {
    const char *bytes;
    size_t length;
};

static void write_piece(uws_res_t *res, void *data) {
    struct piece *piece = data;
    uws_res_write(ssl, res, piece->bytes, piece->length);
}

static void to_room(uint32_t room, struct piece piece) {
    for (uint32_t at = 0; at < sse[room].count; at++)
        uws_res_cork(ssl, sse[room].all[at]->res, write_piece, &piece);
}

static void on_heartbeat(struct us_timer_t *timer) {
    (void)timer;
    for (uint32_t room = 0; room < SSE_ROOMS; room++) to_room(room, (struct piece){":\n\n", 3});
}

static void on_publish_aborted(uws_res_t *res, void *data) { (void)res, (void)data; }

/* While a request is being handled its own response holds the only cork, and each write to another
   would be four sends. So events are written after the turn, what gathered for a room in one piece. */
static void flush_room(void *data) {
    uintptr_t room = (uintptr_t)data;
    to_room((uint32_t)room, (struct piece){sse[room].events, sse[room].length});
    sse[room].length = 0;
}

static void queue_event(uintptr_t room, const char *body, size_t length) {
    size_t wanted = sse[room].length + length + 16;
    if (wanted > sse[room].bytes_for)
        sse[room].events = realloc(sse[room].events, sse[room].bytes_for = 2 * wanted);
    if (sse[room].length == 0) uws_loop_defer(uws_get_loop(), flush_room, (void *)room);
    sse[room].length += (size_t)sprintf(sse[room].events + sse[room].length, "data: %.*s\n\n",
                                        (int)length, body);
}

static void on_publish_data(uws_res_t *res, const char *body, size_t length, bool last, void *data) {
    (void)data;
    if (!last) return;
    if (length >= ROOM_AT + ROOM) queue_event(room_number(body + ROOM_AT) % SSE_ROOMS, body, length);
    uws_res_end(ssl, res, "", 0, false);
}

static void on_publish(uws_res_t *res, uws_req_t *req, void *unused) {
    (void)req, (void)unused;
    uws_res_on_aborted(ssl, res, on_publish_aborted, NULL);
    uws_res_on_data(ssl, res, on_publish_data, NULL);
}

static void on_listen(void *socket, listen_t config, void *unused) {
    (void)unused;
    if (!socket) {
        fprintf(stderr, "cannot listen on port %d\n", config.port);
        exit(1);
    }
}

int main(int count, char **words) {
    if (count != 2 && count != 4) {
        fprintf(stderr, "usage: uws PORT [CERT KEY]\n");
        return 2;
    }
    struct us_options options = {0};
    if (count == 4) {
        ssl = 1;
        options.cert = words[2];
        options.key = words[3];
    }
    app = uws_create_app(ssl, options);
    if (!app || uws_constructor_failed(ssl, app)) {
        fprintf(stderr, "uWebSockets cannot start: is the certificate readable?\n");
        return 1;
    }
    /* A ping 24 seconds after the last word of a client, and 16 more to answer it. */
    behavior_t behavior = {
        .max_payload_length = 1 << 20,
        .idle_timeout = 40,
        .max_backpressure = 1 << 20,
        .send_pings_automatically = true,
        .upgrade = on_upgrade,
        .open = on_open,
        .message = on_message,
    };
    uws_ws(ssl, app, "/ws", behavior, NULL);
    uws_app_get(ssl, app, "/sse", on_sse, NULL);
    uws_app_post(ssl, app, "/pub", on_publish, NULL);
    struct us_timer_t *timer = us_create_timer(uws_get_loop(), 1, 0);
    us_timer_set(timer, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    listen_t where = {atoi(words[1]), "127.0.0.1", 0};
    uws_app_listen_with_config(ssl, app, where, on_listen, NULL);
    uws_app_run(ssl, app);
    return 0;
}
