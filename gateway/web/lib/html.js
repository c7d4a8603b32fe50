// What every component is written with.
import { h, render, Fragment } from "../vendor/preact/preact.mjs";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact/hooks.mjs";
import { batch, computed, effect, signal, useComputed, useSignal } from "../vendor/signals/signals.mjs";
import htm from "../vendor/htm/htm.mjs";

export const html = htm.bind(h);
export {
  Fragment,
  batch,
  computed,
  effect,
  h,
  render,
  signal,
  useComputed,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useSignal,
  useState,
};
