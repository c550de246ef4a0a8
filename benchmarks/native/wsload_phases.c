/* What is done with the connections: come and go, stay idle, take all they can get, take messages at a fixed rate. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "wsload.h"

#define STALL (2 * SECOND)

static uint64_t sent_before, received_before;
static int next_publisher;

static int members(void) {
    int count = options.group ? options.group : options.connections - counts.ended;
    return options.echo || count < 1 ? 1 : count;
}

/* Messages that did not reach everybody yet. */
static double outstanding(void) {
    return (double)(counts.sent - sent_before) - (double)(counts.received - received_before) / members();
}

static void begin_counting(void) {
    sent_before = counts.sent;
    received_before = counts.received;
    counts.last_received = now();
}

static void give_up_on_outstanding(struct report *report) {
    double missing = outstanding();
    if (missing > 1e-9)
        report->lost += (uint64_t)(missing * members() + .5);
    begin_counting();
}

static void drain(struct report *report) {
    uint64_t began = now();
    counts.last_received = began;
    while (outstanding() > 1e-9 && now() - counts.last_received < 3 * SECOND / 2 && now() - began < 15 * SECOND)
        poll_connections(now() + SECOND / 20, 0);
    give_up_on_outstanding(report);
}

/* The first member of each of the first rooms, in turns; or the first connections. */
static void publish_next(uint64_t due) {
    connection_publish(&connections[next_publisher * (options.group ? options.group : 1)], due);
    next_publisher = (next_publisher + 1) % options.publishers;
}

/* Coming and going */

static struct connection **gone;
static int gone_count;

static void has_come(struct connection *connection) {
    gone[gone_count++] = connection;
}

void phase_churn(struct report *report) {
    long step = options.churn / 10, opened = 0, started = 0, width = options.handshakes_under_way;
    if (width > options.connections)
        width = options.connections;
    gone = calloc(width, sizeof *gone);
    on_ready = has_come;
    report->churn_memory[report->churn_points++] = server_memory();
    for (; started < width; started++)
        connection_start(&connections[started]);
    while (opened < options.churn && !counts.failed) {
        poll_connections(now() + SECOND / 50, 0);
        for (int i = 0; i < gone_count; i++) {
            struct connection *connection = gone[i];
            connection_reset(connection);
            if (++opened % step == 0 && report->churn_points < 11)
                report->churn_memory[report->churn_points++] = server_memory();
            if (started++ < options.churn)
                connection_start(connection);
        }
        gone_count = 0;
    }
    on_ready = NULL;
}

void phase_connect(struct report *report) {
    double cpu = server_cpu(), memory = server_memory();
    uint64_t began = now();
    int started = 0;
    while (counts.open + counts.failed < options.connections) { /* whoever started this ends it when it takes too long */
        while (started < options.connections
               && started - counts.open - counts.failed < options.handshakes_under_way)
            connection_start(&connections[started++]);
        poll_connections(now() + SECOND / 50, 0);
    }
    report->handshakes = options.connections / ((now() - began) / 1e9);
    report->handshake_cpu = (server_cpu() - cpu) * 1e6 / options.connections;
    if (counts.open < options.connections) {
        fprintf(stderr, "wsload: %d of %d connected\n", counts.open, options.connections);
        exit(1);
    }
    uint64_t until = now() + (uint64_t)(options.idle * SECOND);
    cpu = server_cpu();
    while (now() < until)
        poll_connections(now() + SECOND / 50, 0);
    report->idle_cpu = options.idle > 0 ? (server_cpu() - cpu) / options.idle : 0;
    report->memory = (server_memory() - memory) / options.connections;
}

/* Saturation: a closed loop. So many messages are on the way at all times. */

static void saturate_until(uint64_t end, struct report *report) {
    for (uint64_t time = now(); time < end && counts.ended < options.connections; time = now()) {
        int missing = options.under_way - (int)(outstanding() + 0.999999);
        for (; missing > 0; missing--)
            publish_next(now());
        poll_connections(now() + SECOND / 50, 1);
        if (now() - counts.last_received > STALL) {
            report->stalls++;
            give_up_on_outstanding(report);
        }
    }
}

void phase_saturation(struct report *report) {
    static struct histogram histogram;
    double warm = options.saturation > 2 ? 1 : options.saturation * .3;
    begin_counting();
    saturate_until(now() + (uint64_t)(warm * SECOND), report);

    uint64_t received = counts.received, began = now();
    double cpu = server_cpu(), own = own_cpu();
    latencies = &histogram;
    latencies_from = began;
    saturate_until(began + (uint64_t)(options.saturation * SECOND), report);
    double seconds = (now() - began) / 1e9;
    received = counts.received - received;
    report->deliveries = received / seconds;
    report->delivery_cpu = received ? (server_cpu() - cpu) * 1e6 / received : 0;
    report->generator_cpu = (own_cpu() - own) / seconds;
    latencies = NULL;
    drain(report);
}

/* A fixed rate: an open loop. Latency counts from when a message was due, so that a late sender hides nothing. */

void phase_rate(struct report *report) {
    static struct histogram histogram;
    uint64_t began = now() + SECOND / 100, measured_from = began + SECOND / 2;
    uint64_t end = measured_from + (uint64_t)(options.rate_seconds * SECOND);
    uint64_t received = counts.received, count = 0, due = began;
    double cpu = server_cpu();
    latencies = &histogram;
    latencies_from = measured_from;
    begin_counting();
    while (now() < end) {
        for (; due <= now(); due = began + (uint64_t)(++count * 1e9 / options.rate))
            publish_next(due);
        poll_connections(due < end ? due : end, 0);
    }
    received = counts.received - received;
    report->rate = options.rate;
    report->rate_cpu = received ? (server_cpu() - cpu) * 1e6 / received : 0;
    drain(report);
    latencies = NULL;
    report->p50 = histogram_quantile(&histogram, .5);
    report->p99 = histogram_quantile(&histogram, .99);
}
