"""A DHCP server on the Ethernet that `imager run --lan` makes, which a scenario leads: it gives, moves and withholds a lease.

The Ethernet is a multicast group of UDP on loopback, a frame in each datagram (QEMU's `socket` network). The server speaks
ARP, IPv4, UDP and BOOTP by hand, so that it needs no interface and no root.
"""
import hashlib
import socket
import struct
import threading

MAC = bytes.fromhex("525400d00001")
BROADCAST = b"\xff" * 6
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6


def group(name):
    """The multicast group and port that stand for a LAN's name, as imager has them."""
    h = hashlib.sha256(b"kiln-lan\0" + name.encode()).digest()
    return f"239.{192 | (h[0] & 3)}.{h[1]}.{h[2]}", 20000 + int.from_bytes(h[3:5], "big") % 20000


def checksum(data):
    """IPv4's."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Server:
    """Gives `address` to whoever asks. A lease is asked for anew after `renew` seconds and ends after `lease`."""

    def __init__(self, lan, own, address, lease=60, renew=3):
        self.own, self.lease, self.renew = socket.inet_aton(own), lease, renew
        self.changed = threading.Condition()
        self.address = socket.inet_aton(address)
        self.silent = False
        self.renewals = 0
        self.to = group(lan)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.to)
        loopback = socket.inet_aton("127.0.0.1")
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(self.to[0]) + loopback)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        threading.Thread(target=self._serve, daemon=True).start()

    def move(self, address):
        """From now on the lease is another address; who has the old one is told so at its next renewal."""
        with self.changed:
            self.address = socket.inet_aton(address)

    def silence(self, silent=True):
        """Answers nobody, or everybody again."""
        with self.changed:
            self.silent = silent

    def renewed(self, times, seconds):
        """Waits until the lease was renewed so often since now."""
        with self.changed:
            wanted = self.renewals + times
            assert self.changed.wait_for(lambda: self.renewals >= wanted, seconds), f"{self.renewals} renewals, not {wanted}"

    def close(self):
        """Leaves the Ethernet."""
        self.socket.close()

    def _serve(self):
        while True:
            try:
                frame = self.socket.recv(65536)
            except OSError:
                return
            if len(frame) < 42 or frame[6:12] == MAC:
                continue
            kind = frame[12:14]
            with self.changed:
                if kind == b"\x08\x06":
                    self._arp(frame)
                elif kind == b"\x08\x00" and frame[23] == 17 and not self.silent:
                    header = (frame[14] & 15) * 4
                    if frame[14 + header + 2:14 + header + 4] == b"\x00\x43":
                        self._bootp(frame[14 + header + 8:])

    def _send(self, to, kind, payload):
        self.socket.sendto((to + MAC + kind + payload).ljust(60, b"\0"), self.to)

    def _arp(self, frame):
        asks, target = frame[20:22] == b"\x00\x01", frame[38:42]
        if asks and target == self.own:
            self._send(frame[6:12], b"\x08\x06", frame[14:20] + b"\x00\x02" + MAC + self.own + frame[22:32])

    def _bootp(self, packet):
        options, at = {}, 240
        while at + 1 < len(packet) and packet[at] != 255:
            if packet[at] == 0:
                at += 1
                continue
            options[packet[at]] = packet[at + 2:at + 2 + packet[at + 1]]
            at += 2 + packet[at + 1]
        kind, held = options.get(53, b"\0")[0], packet[12:16]
        if kind == DISCOVER:
            self._answer(packet, OFFER)
        elif kind == REQUEST and options.get(54, self.own) == self.own:
            # What is held is renewed; what is asked for was offered.
            renewal = held != bytes(4)
            good = (held if renewal else options.get(50)) == self.address
            self._answer(packet, ACK if good else NAK)
            if renewal and good:
                self.renewals += 1
                self.changed.notify_all()

    def _answer(self, packet, kind):
        given = bytes(4) if kind == NAK else self.address
        options = [(53, bytes([kind])), (54, self.own)]
        if kind != NAK:
            options += [(1, bytes([255, 255, 255, 0])), (3, self.own), (51, struct.pack("!I", self.lease)),
                        (58, struct.pack("!I", self.renew)), (59, struct.pack("!I", self.lease - 5))]
        body = b"\x02\x01\x06\x00" + packet[4:8] + bytes(2) + packet[10:12] + bytes(4) + given + self.own + bytes(4)
        body += packet[28:44] + bytes(192) + bytes([99, 130, 83, 99])
        body += b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\xff"
        udp = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
        to = b"\xff" * 4 if packet[12:16] == bytes(4) or kind == NAK else packet[12:16]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, self.own, to)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        self._send(BROADCAST if to == b"\xff" * 4 else packet[28:34], b"\x08\x00", head + udp)
