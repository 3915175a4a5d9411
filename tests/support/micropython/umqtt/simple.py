"""MicroPython's `umqtt.simple` as far as the snippet uses it, over paho: the same calls, blocking where it blocks."""

import time

import paho.mqtt.client as paho

TIMEOUT_S = 20


class MQTTClient:
    """The client of one connection; a broken one raises OSError, as on a board."""

    def __init__(self, client_id, server, port=0, user=None, password=None, keepalive=0, ssl=None):
        assert not ssl
        self._server, self._port, self._keepalive = server, port or 1883, keepalive
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv311)
        self._client.username_pw_set(user, password)
        self._client.on_message = lambda _client, _data, message: self._heard(message)
        self._callback = None
        self._publishing = False

    def set_callback(self, callback):
        self._callback = callback

    def set_last_will(self, topic, msg, retain=False, qos=0):  # noqa: FBT002  (theirs)
        self._client.will_set(topic, msg, qos, retain)

    def connect(self):
        self._client.connect(self._server, self._port, self._keepalive)
        self._until(self._client.is_connected)

    def subscribe(self, topic, qos=0):
        granted = []
        self._client.on_subscribe = lambda _client, _data, _mid, codes, _properties: granted.extend(codes)
        self._client.subscribe(topic, qos)
        self._until(lambda: granted)
        assert not any(code.is_failure for code in granted)

    def publish(self, topic, msg, retain=False, qos=0):  # noqa: FBT002
        assert not self._publishing, "umqtt.simple would wait for ever"
        self._publishing = True
        sent = self._client.publish(topic, msg, qos, retain)
        self._until(sent.is_published)
        self._publishing = False

    def check_msg(self):
        self._loop(0.0)

    def _heard(self, message):
        self._callback(message.topic.encode(), message.payload)

    def _until(self, condition):
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                raise OSError("timed out")
            self._loop(0.05)

    def _loop(self, timeout):
        if self._client.loop(timeout) != paho.MQTT_ERR_SUCCESS:
            raise OSError("the connection broke")
