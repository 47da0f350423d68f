/* The floor: an ext_proc service that does nothing but answer, for what no service can cost less.
 *
 * It reads frames by their length, decodes nothing, and answers the first message of each stream
 * with the same bytes. No flow control, no errors, no limits: it is good for measuring alone.
 *
 *     floor SOCKET ANSWER    (the serialised ProcessingResponse, in hexadecimal, below 120 bytes)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEADER = 9, PREFACE = 24, MOST = 64, ROOM = 1 << 17, ID = 5 };
enum { DATA = 0, HEADERS = 1, SETTINGS = 4, PING = 6, ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

struct peer {
    unsigned char bytes[ROOM];
    int held, greeted;
};

static struct peer peers[MOST];
static unsigned char answer[512], out[1 << 20];
static int answer_size, ids[3]; /* where the stream's number stands in each frame of an answer */

static int frame(unsigned char *to, int size, int type, int flags) {
    memset(to, 0, HEADER);
    to[0] = size >> 16, to[1] = size >> 8, to[2] = size, to[3] = type, to[4] = flags;
    return HEADER;
}

static void put_together(const char *hexadecimal) {
    static const unsigned char head[] = "\x88\x0f\x10\x10" "application/grpc"; /* 200, content-type */
    static const unsigned char end[] = "\x00\x0bgrpc-status\x01" "0";
    int size = strlen(hexadecimal) / 2, at = 0;
    ids[0] = at + ID, at += frame(answer + at, sizeof head - 1, HEADERS, END_HEADERS);
    memcpy(answer + at, head, sizeof head - 1), at += sizeof head - 1;
    ids[1] = at + ID, at += frame(answer + at, size + 5, DATA, 0);
    memset(answer + at, 0, 4), answer[at + 4] = size, at += 5;
    for (int i = 0; i < size; i++) {
        unsigned byte = 0;
        sscanf(hexadecimal + 2 * i, "%2x", &byte);
        answer[at++] = byte;
    }
    ids[2] = at + ID, at += frame(answer + at, sizeof end - 1, HEADERS, END_HEADERS | END_STREAM);
    memcpy(answer + at, end, sizeof end - 1), at += sizeof end - 1;
    answer_size = at;
}

/* Handles every whole frame of what a peer sent; returns how many bytes are to be sent. */
static int handle(struct peer *peer) {
    unsigned char *at = peer->bytes;
    int left = peer->held, size = 0;
    if (!peer->greeted) {
        if (left < PREFACE) return 0;
        at += PREFACE, left -= PREFACE, peer->greeted = 1;
    }
    while (left >= HEADER) {
        int length = at[0] << 16 | at[1] << 8 | at[2], whole = HEADER + length;
        if (left < whole) break;
        if (at[3] == SETTINGS && !(at[4] & ACK)) size += frame(out + size, 0, SETTINGS, ACK);
        if (at[3] == PING && !(at[4] & ACK)) {
            memcpy(out + size, at, whole), out[size + 4] = ACK, size += whole;
        }
        if (at[3] == DATA && length > 5) {
            memcpy(out + size, answer, answer_size);
            for (int i = 0; i < 3; i++) memcpy(out + size + ids[i], at + ID, 4);
            size += answer_size;
        }
        at += whole, left -= whole;
    }
    memmove(peer->bytes, at, left);
    peer->held = left;
    return size;
}

int main(int count, char **given) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event wanted = {.events = EPOLLIN}, came[MOST];
    /* no table for header blocks; a window for the connection that lasts */
    static const unsigned char greeting[] = {0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
                                             0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0};
    if (count != 3) return 2;
    put_together(given[2]);
    strncpy(address.sun_path, given[1], sizeof address.sun_path - 1);
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), polled = epoll_create1(0);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 16)) return 1;
    wanted.data.fd = listening;
    epoll_ctl(polled, EPOLL_CTL_ADD, listening, &wanted);
    for (;;) {
        int ready = epoll_wait(polled, came, MOST, -1);
        for (int i = 0; i < ready; i++) {
            int fd = came[i].data.fd;
            if (fd == listening) {
                fd = accept(listening, NULL, NULL);
                if (fd < 0 || fd >= MOST) return 1;
                peers[fd].held = peers[fd].greeted = 0;
                wanted.data.fd = fd;
                epoll_ctl(polled, EPOLL_CTL_ADD, fd, &wanted);
                if (write(fd, greeting, sizeof greeting) < 0) close(fd);
                continue;
            }
            struct peer *peer = &peers[fd];
            int got = read(fd, peer->bytes + peer->held, ROOM - peer->held);
            if (got <= 0) {
                close(fd);
                continue;
            }
            peer->held += got;
            int size = handle(peer);
            if (size && write(fd, out, size) < size) close(fd);
        }
    }
}
