// A way to the loudspeaker that the browser's echo canceller knows.

const PATIENCE_MS = 3000;
const BITRATE = 128000; // Opus, transparent for one voice

/**
 * Play a stream through a peer connection of the page with itself. Chrome's echo canceller takes what arrives over a
 * connection for its reference, and where the whole browser's output is not cancelled (phones, older versions) it
 * takes nothing else. Costs some 50 ms.
 *
 * @returns {Promise<{element: HTMLAudioElement, close: () => void}>} rejected where the browser has no connection to offer
 */
export async function loopback(stream) {
  const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
  const element = new Audio();
  const close = () => {
    element.onpause = null;
    from.close();
    to.close();
    element.srcObject = null;
  };
  try {
    from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate).catch(() => {});
    to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate).catch(() => {});
    const arrived = new Promise((resolve) => (to.ontrack = resolve));
    from.addTrack(stream.getAudioTracks()[0], stream);
    const offer = await from.createOffer();
    await from.setLocalDescription(offer);
    await to.setRemoteDescription(offer);
    const answer = await to.createAnswer();
    await to.setLocalDescription(answer);
    await from.setRemoteDescription({ type: "answer", sdp: inFullQuality(answer.sdp) });
    const { receiver, streams } = await arrived;
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0; // there is no network to wait for
    await connected(to);
    element.srcObject = streams[0];
    return { element, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Opus for calls saves bits where a voice pauses; here it must not. */
function inFullQuality(sdp) {
  return sdp.replace(/(a=fmtp:\d+ [^\r\n]*useinbandfec=1)/, `$1;usedtx=0;cbr=1;maxaveragebitrate=${BITRATE}`);
}

/** @returns {Promise<void>} */
function connected(connection) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (connection.connectionState === "connected") resolve();
      if (connection.connectionState === "failed") reject(new Error("no loopback connection"));
    };
    connection.onconnectionstatechange = look;
    look();
    setTimeout(() => reject(new Error("no loopback connection in time")), PATIENCE_MS);
  });
}
