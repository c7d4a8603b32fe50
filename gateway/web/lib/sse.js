// Server-sent events out of pieces of text, after the HTML standard's section on parsing an event stream.

/** `push` takes the next piece and returns the messages that are complete: `{id, event, data}`. */
export class EventStreamParser {
  #rest = "";
  #message = { id: null, event: "message", data: [] };

  push(piece) {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    const complete = [];
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#message.data.length > 0) complete.push(this.#take());
      else this.#message = { id: null, event: "message", data: [] };
    }
    return complete;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#message.data.push(value);
    else if (name === "event") this.#message.event = value;
    else if (name === "id" && !value.includes("\0")) this.#message.id = value;
  }

  #take() {
    const { id, event, data } = this.#message;
    this.#message = { id: null, event: "message", data: [] };
    return { id, event, data: data.join("\n") };
  }
}
