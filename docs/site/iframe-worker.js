/* Browsers start no worker from a file. On pages opened from the disk a frame does its work: that of the search. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow;
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inner.document.createElement("script");
      script.src = url;
      const loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      this.postMessage = (data) => loaded.then(() => inner.dispatchEvent(new MessageEvent("message", { data })));
      inner.document.body.append(script);
    }
  };
}
